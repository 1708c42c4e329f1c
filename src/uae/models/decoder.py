# diffusers types configs as dicts, optional layers as None and outputs as tuples
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportOptionalCall=false, reportOptionalSubscript=false
"""The decoder: an SD3-type flow-matching transformer with its schedule and its vae.

Pixels are in [0, 1] at this border and in [-1, 1] inside the vae; latents are scaled and shifted to
about unit variance. The transformer predicts velocity v = eps - x_0 (see `flow/path.py`).
"""

from collections.abc import Sequence
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

from uae.flow.noise import gaussian
from uae.flow.ode import ode_sample
from uae.flow.schedule import sigmas as schedule_sigmas
from uae.models.projector import Conditions
from uae.recipe.sampling import SamplingConfig


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


class Decoder:
    """Transformer, vae and schedule; draws images from conditions.

    latents = decoder.sample(conditions, noise, config)
    pixels = decoder.to_pixels(latents)
    """

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
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> "Decoder":
        """Load the parts of a diffusers SD3 pipeline folder; its text encoders are not needed."""
        folder = Path(folder)
        transformer = SD3Transformer2DModel.from_pretrained(
            folder / "transformer", torch_dtype=dtype
        )
        vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype)
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
        return cls(transformer.eval(), vae.eval(), scheduler)

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

    @property
    def device(self) -> torch.device:
        return self.transformer.device

    def to(self, device: str) -> None:
        """Move transformer and vae."""
        self.transformer.to(device)
        self.vae.to(device)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image's latents."""
        size = self.transformer.config.sample_size
        return (self.transformer.config.in_channels, size, size)

    @property
    def size_px(self) -> int:
        """Height and width of a drawn image."""
        return self.latent_shape[-1] * 2 ** (len(self.vae.config.block_out_channels) - 1)

    def sigmas(self, num_steps: int) -> Float[Tensor, " t"]:
        """Noise levels of a sampling run, from 1 to 0: `num_steps` + 1 values."""
        return schedule_sigmas(num_steps, self.scheduler.config.shift).to(self.device)

    def velocity(
        self,
        latents: Float[Tensor, "n c h w"],
        sigma: Float[Tensor, " n"],
        conditions: Conditions,
    ) -> Float[Tensor, "n c h w"]:
        """Predict the velocity at noise levels `sigma` in [0, 1]."""
        mask = None
        if not conditions.mask.all():
            num_image = (latents.shape[-1] // self.transformer.config.patch_size) ** 2
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

    def guided_velocity(
        self,
        latents: Float[Tensor, "n c h w"],
        sigma: Float[Tensor, " n"],
        conditions: Conditions,
        negative: Conditions | None,
        guidance_scale: float,
    ) -> Float[Tensor, "n c h w"]:
        """Predict with classifier-free guidance; a scale of 1 costs one forward pass."""
        positive = self.velocity(latents, sigma, conditions)
        if negative is None or guidance_scale == 1.0:
            return positive
        unguided = self.velocity(latents, sigma, negative)
        return unguided + guidance_scale * (positive - unguided)

    def sample(
        self,
        conditions: Conditions,
        noise: Float[Tensor, "n c h w"],
        config: SamplingConfig,
        negative: Conditions | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Draw latents by the deterministic Euler sampler; gradients flow if they are enabled."""

        def field(x: Tensor, sigma: Tensor) -> Tensor:
            return self.guided_velocity(x, sigma, conditions, negative, config.guidance_scale)

        return ode_sample(field, noise, self.sigmas(config.num_steps))

    def noise(self, generators: Sequence[torch.Generator]) -> Float[Tensor, "n c h w"]:
        """Return starting noise, one image per generator; made on the CPU, alike on all devices."""
        return gaussian(generators, self.latent_shape).to(self.device)

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
