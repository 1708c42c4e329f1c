"""Settings of where and in which precision models lie."""

from typing import Literal

from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass as config_dataclass

from uae.core.config import STRICT


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class PlacementConfig:
    """Precision and memory. Adapters, projector, log-probabilities and latents are float32."""

    frozen: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights that are not trained, and of the arithmetic with them; `bfloat16`
    takes half the memory and trains adapters alone."""
    checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    vae_batch: NonNegativeInt = 0
    """Images that the vae decodes or encodes at once; 0 takes a whole micro-batch."""

    offload: list[Literal["encoder", "decoder", "rewards"]] = Field(default_factory=list)
    """Parts that wait in the CPU's memory while a phase does not need them; the decoder's text
    encoder and vae go with it. Changes time and memory, not the result."""

    @property
    def rounding(self) -> float:
        """Relative precision where kernels of two passes may differ; 0 where they do not."""
        return 0.0 if self.frozen == "float32" else 2**-7  # bfloat16's
