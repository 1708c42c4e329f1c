# diffusers types configs as dicts, optional layers as None and outputs as tuples
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportOptionalCall=false, reportOptionalSubscript=false
"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206), by their transformer and vae alone.

Pixels are in [-1, 1] inside the vae; latents are scaled and shifted to about unit variance.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from diffusers.models.attention_processor import Attention
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from uae.data.shapes import Size
from uae.flow.schedule import sigmas as schedule_sigmas
from uae.models.conditions import Conditions
from uae.models.dit.loading import check_sides, load_part
from uae.models.targets import Targets


class MaskedJointAttention:
    """diffusers' joint attention that leaves masked text positions out of the keys.

    SD3's own processor lets every image attend to its caption's padding, so that a redraw depends
    on the longest caption of its batch. Without padding both give the same result.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        def heads(x: Tensor) -> Tensor:
            return rearrange(x, "b s (h d) -> b h s d", h=attn.heads)

        def normed(x: Tensor, norm: torch.nn.Module | None) -> Tensor:
            return x if norm is None else norm(x)

        num_image = hidden_states.shape[1]
        query = normed(heads(attn.to_q(hidden_states)), attn.norm_q)
        key = normed(heads(attn.to_k(hidden_states)), attn.norm_k)
        value = heads(attn.to_v(hidden_states))
        if encoder_hidden_states is not None:
            text_query = normed(heads(attn.add_q_proj(encoder_hidden_states)), attn.norm_added_q)
            text_key = normed(heads(attn.add_k_proj(encoder_hidden_states)), attn.norm_added_k)
            query = torch.cat([query, text_query], dim=2)
            key = torch.cat([key, text_key], dim=2)
            value = torch.cat([value, heads(attn.add_v_proj(encoder_hidden_states))], dim=2)
        else:  # SD3.5's second attention is among image tokens, which are all real
            attention_mask = None
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        mixed = rearrange(mixed, "b h s d -> b s (h d)")
        image = attn.to_out[1](attn.to_out[0](mixed[:, :num_image]))
        if encoder_hidden_states is None:
            return image
        text = mixed[:, num_image:]
        return image, text if attn.context_pre_only else attn.to_add_out(text)


class Sd3:
    """See `DitFamily`."""

    targets = Targets(
        # the layers of Flow-GRPO (yifan123/flow_grpo `scripts/train_sd3.py`)
        lora=r".*\.attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)",
        full=r".*",
    )
    pipeline_class = StableDiffusion3Pipeline

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        vae: AutoencoderKL,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        self.transformer = transformer
        self.vae = vae.requires_grad_(False)
        self.scheduler = scheduler
        transformer.set_attn_processor(MaskedJointAttention())

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype) -> "Sd3":
        """Load the parts of a diffusers SD3 pipeline folder; its text encoders are not needed."""
        folder = Path(folder)
        return cls(
            load_part(SD3Transformer2DModel, folder / "transformer", dtype),
            load_part(AutoencoderKL, folder / "vae", dtype),
            FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a `StableDiffusion3Pipeline` folder without text encoders."""
        folder = Path(folder)
        self.transformer.save_pretrained(folder / "transformer")
        self.vae.save_pretrained(folder / "vae")
        self.scheduler.save_pretrained(folder / "scheduler")
        self.pipeline().save_config(folder)

    def pipeline(self) -> StableDiffusion3Pipeline:
        """Join the parts to a diffusers pipeline, which takes `prompt_embeds`."""
        return StableDiffusion3Pipeline(
            transformer=self.transformer,
            scheduler=self.scheduler,
            vae=self.vae,
            text_encoder=None,
            tokenizer=None,
            text_encoder_2=None,
            tokenizer_2=None,
            text_encoder_3=None,
            tokenizer_3=None,
        )

    def modules(self) -> dict[str, torch.nn.Module]:
        """See `DitFamily`; its text encoders are not needed."""
        return {"transformer": self.transformer, "vae": self.vae}

    @property
    def device(self) -> torch.device:
        return self.transformer.device

    def to(self, device: str) -> None:
        """Move transformer and vae."""
        for part in self.modules().values():
            part.to(device)

    @property
    def _vae_factor(self) -> int:
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size_px(self) -> int:
        return self.transformer.config.sample_size * self._vae_factor

    @property
    def step_px(self) -> int:
        return self.transformer.config.patch_size * self._vae_factor

    def latent_shape(self, size: Size) -> tuple[int, int, int]:
        """Channels, height and width of one image's latents."""
        check_sides(size, self.transformer.config, self.step_px)
        height, width = (side // self._vae_factor for side in size)
        return self.transformer.config.in_channels, height, width

    def sigmas(self, num_steps: int, latent_shape: tuple[int, ...]) -> Float[Tensor, " t"]:
        """See `DitFamily`; the shift is the same for all sizes."""
        return schedule_sigmas(num_steps, self.scheduler.config.shift).to(self.device)

    def velocity(
        self,
        latents: Float[Tensor, "n c h w"],
        sigma: Float[Tensor, " n"],
        conditions: Conditions,
    ) -> Float[Tensor, "n c h w"]:
        """See `DitFamily`."""
        mask = None
        if not conditions.mask.all():
            height, width = latents.shape[-2:]
            num_image = height * width // self.transformer.config.patch_size**2
            seen = F.pad(conditions.mask, (num_image, 0), value=True)
            mask = repeat(seen, "n s -> n 1 1 s")
        dtype = self.transformer.dtype
        output = self.transformer(
            hidden_states=latents.to(dtype),
            encoder_hidden_states=conditions.embeds.to(dtype),
            pooled_projections=conditions.pooled.to(dtype),
            timestep=sigma * self.scheduler.config.num_train_timesteps,
            joint_attention_kwargs={"attention_mask": mask},
            return_dict=False,
        )
        return output[0].float()

    def to_pixels(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 y x"]:
        """Decode latents to pixels in [0, 1], NaN where the vae gave nothing finite."""
        config = self.vae.config
        scaled = latents / config.scaling_factor + config.shift_factor
        pixels = self.vae.decode(scaled.to(self.vae.dtype)).sample.float()
        pixels = pixels.masked_fill(pixels.isinf(), float("nan"))  # which a clamp would hide
        return (pixels / 2 + 0.5).clamp(0, 1)

    def to_latents(self, pixels: Float[Tensor, "n 3 y x"]) -> Float[Tensor, "n c h w"]:
        """Encode pixels in [0, 1] to the mean of their latents."""
        config = self.vae.config
        mean = self.vae.encode((pixels * 2 - 1).to(self.vae.dtype)).latent_dist.mean
        return (mean.float() - config.shift_factor) * config.scaling_factor
