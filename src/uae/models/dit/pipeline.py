# the classes of diffusers' pipelines share no type that knows their parts
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""Any text-to-image pipeline of diffusers as a decoder family: its own code does all arithmetic.

Packing of latents, position ids, the schedule with its shifts, signs and scales are the pipeline's:
its `__call__` runs, without its `no_grad`, up to the one thing that is asked of it. So velocities,
noise levels and pixels are those of the pipeline's own call, bit for bit. What differs from one
pipeline to another is a `PipelineSpec`, a line of `table.py`.
"""

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.loaders.lora_base import LoraBaseMixin
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from uae.core.errors import UsageError
from uae.data.shapes import Size
from uae.models.conditions import Conditions
from uae.models.dit.loading import check_sides, load_pipeline
from uae.models.dit.vae import to_latents
from uae.models.plain_text import PlainText, blanked, readers_of
from uae.models.targets import Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """What differs between pipelines.

    Attributes:
        lora: Layers of the transformer that get adapters, as in `Targets`.
        max_tokens: Longest caption that it reads, in tokens; the rest is cut off.
        unguided: Arguments of its call without guidance, and with the prompt as it is.
        width: Setting of the transformer that says how wide its prompt embeddings are.
        mask: Name of the mask of prompt embeddings; "" where padding is read like words.
        pooled: Name of the pooled embeddings, where it takes such.
        tokenizer: The part by which captions are counted.
        embeds_in_list: Prompt embeddings are a list of captions without padding.
        layout: Of latents in the transformer: images; tokens of 2 x 2 latents, in which the call
            wants them too; or one token for each latent.
        patch: Latents across and down must be a multiple of it.
        size_px: Side of a square image where nothing else is said.
        unused: Parts that its call does not need so.
    """

    lora: str
    max_tokens: int
    width: str = "joint_attention_dim"
    unguided: Mapping[str, Any] = field(default_factory=dict)
    mask: str = ""
    pooled: str = ""
    tokenizer: str = "tokenizer"
    embeds_in_list: bool = False
    layout: Literal["image", "patches", "tokens"] = "image"
    patch: int = 2
    size_px: int = 1024
    unused: tuple[str, ...] = ()


class _Answer(Exception):
    """Ends a call with what was asked of it."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class _Scheduler:
    """Stops a call at its schedule, or at the first velocity of given noise levels."""

    order = 1

    def __init__(self, real: Any) -> None:
        self.real = real
        self.config = real.config
        self.timesteps: Sequence[Tensor] | None = None

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
    ) -> None:
        if self.timesteps is None:
            given = {"num_inference_steps": num_inference_steps, "sigmas": sigmas, "mu": mu}
            given = {key: value for key, value in given.items() if value is not None}
            self.real.set_timesteps(device=device, **given)
            raise _Answer(self.real.sigmas)

    def set_begin_index(self, index: int) -> None: ...

    def step(self, velocity: Tensor, *_: Any, **__: Any) -> None:
        raise _Answer(velocity)


class _Decoded:
    """An image processor that leaves pixels as the vae decodes them."""

    def postprocess(self, pixels: Tensor, **_: Any) -> Tensor:
        return pixels


class PipelineDit:
    """See `DitFamily`."""

    def __init__(self, pipeline: Any, spec: PipelineSpec) -> None:
        self.pipeline = pipeline
        self.spec = spec
        self.max_tokens = spec.max_tokens
        self.targets = Targets(lora=spec.lora, full=r".*")
        tokenizer = pipeline.components[spec.tokenizer]
        self.plain = PlainText(tokenizer, tokenizer.chat_template)
        self._readers = readers_of(pipeline.components.values())
        self._scheduler = _Scheduler(pipeline.scheduler)
        self._call = inspect.unwrap(type(pipeline).__call__)
        pipeline.set_progress_bar_config(disable=True)
        self._probe = copy.copy(pipeline)  # shares the models
        vars(self._probe).update(
            scheduler=self._scheduler,
            image_processor=_Decoded(),
            check_inputs=lambda *_, **__: None,  # it refuses embeddings beside a prompt
        )

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, dtype: torch.dtype, spec: PipelineSpec
    ) -> "PipelineDit":
        """Load a whole pipeline; its text encoder reads captions for the `native` condition."""
        return cls(load_pipeline(folder, dtype, spec.unused), spec)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the whole pipeline."""
        self.pipeline.save_pretrained(folder)

    @property
    def pipeline_class(self) -> type[LoraBaseMixin] | None:
        return type(self.pipeline) if isinstance(self.pipeline, LoraBaseMixin) else None

    @property
    def transformer(self) -> nn.Module:
        return self.pipeline.transformer

    def modules(self) -> dict[str, nn.Module]:
        """See `DitFamily`."""
        parts = self.pipeline.components
        return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}

    @property
    def device(self) -> torch.device:
        return self.pipeline.transformer.device

    def to(self, device: str) -> None:
        """Move all parts."""
        for part in self.modules().values():
            part.to(device)

    # -- captions -----------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Conditions:
        """Read captions by the pipeline's own text encoder, as its call does.

        Raises:
            UsageError: The folder holds no text encoder.
        """
        if self.pipeline.text_encoder is None:
            raise UsageError(
                f"{type(self.pipeline).__name__} has no text encoder in its folder: expected one "
                "for the native condition, or a projector"
            )
        real = self.pipeline.encode_prompt

        def encode_prompt(*args: Any, **kwargs: Any) -> None:
            raise _Answer(real(*args, **kwargs))

        vars(self._probe)["encode_prompt"] = encode_prompt
        try:
            values = self._ask(prompt=[blanked(x, self._readers) for x in captions])
        finally:
            del vars(self._probe)["encode_prompt"]
        embeds, mask = values[0], values[1] if self.spec.mask else None
        if self.spec.embeds_in_list:
            mask = nn.utils.rnn.pad_sequence([x.new_ones(len(x)) for x in embeds], True)
            embeds = nn.utils.rnn.pad_sequence(list(embeds), True)
        if mask is None:
            mask = embeds.new_ones(embeds.shape[:2])
        pooled = values[2] if self.spec.pooled else embeds.new_zeros(len(embeds), 0)
        return Conditions(embeds, mask.bool(), pooled)

    def _given(self, conditions: Conditions) -> dict[str, Any]:
        """Return conditions as arguments of the call."""
        embeds, mask = conditions.embeds.to(self.transformer.dtype), conditions.mask
        given: dict[str, Any] = {"prompt": [""] * len(embeds), "prompt_embeds": embeds}
        if self.spec.embeds_in_list:
            given["prompt_embeds"] = [row[kept] for row, kept in zip(embeds, mask, strict=True)]
        if self.spec.mask:
            given[self.spec.mask] = mask
        if self.spec.pooled:
            given[self.spec.pooled] = conditions.pooled.to(embeds.dtype)
        return given

    # -- images -------------------------------------------------------------------------------

    @property
    def size_px(self) -> int:
        return self.spec.size_px

    @property
    def _pixels_per_latent(self) -> int:
        return self.pipeline.vae_scale_factor * (2 if self.spec.layout == "tokens" else 1)

    @property
    def step_px(self) -> int:
        return self.pipeline.vae_scale_factor * self.spec.patch

    def latent_shape(self, size: Size) -> tuple[int, int, int]:
        """Channels, height and width of one image's latents."""
        check_sides(size, self.pipeline.transformer.config, self.step_px)
        channels = int(self.pipeline.transformer.config.in_channels)
        channels //= 4 if self.spec.layout == "patches" else 1
        height, width = (side // self._pixels_per_latent for side in size)
        return channels, height, width

    def sigmas(self, num_steps: int, latent_shape: tuple[int, ...]) -> Float[Tensor, " t"]:
        """See `DitFamily`; dynamic shifts are the pipeline's, for this size."""
        latents = torch.zeros(1, *latent_shape, device=self.device)
        self._scheduler.timesteps = None
        return self._draw(latents, None, num_inference_steps=num_steps).to(self.device)

    def velocity(
        self,
        latents: Float[Tensor, "n c h w"],
        sigma: Float[Tensor, " n"],
        conditions: Conditions,
    ) -> Float[Tensor, "n c h w"]:
        """See `DitFamily`; each image has a noise level of its own."""
        self._scheduler.timesteps = [sigma * self._scheduler.config.num_train_timesteps]
        velocity = self._draw(latents, conditions).float()
        height = latents.shape[-2]
        if self.spec.layout == "patches":
            pattern = "n (h w) (c p q) -> n c (h p) (w q)"
            return rearrange(velocity, pattern, h=height // 2, p=2, q=2)
        if self.spec.layout == "tokens":
            return rearrange(velocity, "n (h w) c -> n c h w", h=height)
        return velocity

    def to_pixels(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 y x"]:
        """Decode latents to pixels in [0, 1], NaN where the vae gave nothing finite."""
        self._scheduler.timesteps = []
        pixels = self._draw(latents, None, return_dict=False, output_type="pt")[0].float()
        pixels = pixels.masked_fill(pixels.isinf(), float("nan"))  # which a clamp would hide
        return (pixels / 2 + 0.5).clamp(0, 1)

    def to_latents(self, pixels: Float[Tensor, "n 3 y x"]) -> Float[Tensor, "n c h w"]:
        """Encode pixels in [0, 1] to the mean of their latents."""
        return to_latents(self.pipeline.vae, pixels * 2 - 1)

    # -- the call -----------------------------------------------------------------------------

    def _draw(self, latents: Tensor, conditions: Conditions | None, **options: Any) -> Any:
        """Call the pipeline with latents; without conditions its transformer is not reached."""
        if conditions is None:
            nothing = latents.new_zeros(len(latents), 1, 1)
            conditions = Conditions(nothing, nothing[..., 0] == 0, nothing[:, 0])
        height, width = (size * self._pixels_per_latent for size in latents.shape[-2:])
        if self.spec.layout == "patches":
            pattern = "n c (h p) (w q) -> n (h w) (c p q)"
            latents = rearrange(latents, pattern, p=2, q=2)
        given = self._given(conditions)
        return self._ask(latents=latents, height=height, width=width, **given, **options)

    def _ask(self, **given: Any) -> Any:
        try:
            return self._call(self._probe, **given, **self.spec.unguided)
        except _Answer as answer:
            return answer.value
