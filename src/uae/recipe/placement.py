"""Settings of where and in which precision models lie."""

from typing import Literal

from pydantic import Field, NonNegativeInt, model_validator
from pydantic.dataclasses import dataclass as config_dataclass

from uae.core.config import STRICT

NARROW = ("float8", "nf4")
"""Precisions that hold weights in fewer bits than the arithmetic has."""


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class PlacementConfig:
    """Precision and memory. Adapters, projector, log-probabilities and latents are float32."""

    frozen: Literal["float32", "bfloat16", "float8", "nf4"] = "float32"
    """Precision of the weights that are not trained, and of the arithmetic with them; all but
    `float32` train adapters alone. `float8` and `nf4` (extra `nf4`) hold blocks so, and compute in
    bfloat16."""
    checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    compile: bool = False
    """Compile the blocks of both models: slower at first, then faster on a GPU. Captions are still
    sampled by the blocks as they are."""
    vae_batch: NonNegativeInt = 0
    """Images that the vae decodes or encodes at once; 0 takes a whole micro-batch."""

    offload: list[Literal["encoder", "decoder", "rewards"]] = Field(default_factory=list)
    """Parts that wait in the CPU's memory while a phase does not need them; the decoder's text
    encoder and vae go with it. Changes time and memory, not the result."""

    @model_validator(mode="after")
    def _fits(self) -> "PlacementConfig":
        if self.compile and self.frozen in NARROW:
            raise ValueError(
                f"placement.compile: true and placement.frozen: {self.frozen}, which is unpacked "
                "around each layer, do not go together: set frozen to bfloat16, or compile to false"
            )
        return self

    @property
    def rounding(self) -> float:
        """Relative precision where kernels of two passes may differ; 0 where they do not."""
        if self.frozen != "float32":
            return 2**-7  # bfloat16's
        return 2**-23 if self.compile else 0.0
