"""Settings of learning: the part of a model that is trained, its optimizer and learning rate."""

import math
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as config_dataclass

from uae.core.config import STRICT

_FINAL_SHARE = 0.02


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimizerConfig:
    """AdamW, or Muon for matrices beside it, with the gradient's norm clipped."""

    lr: NonNegativeFloat
    """Peak learning rate."""
    name: Literal["adamw", "muon"] = "adamw"
    """`muon` orthogonalises the updates of matrices; the rest stays with AdamW."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this norm."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the learning rate rises linearly to its peak."""
    decay_steps: NonNegativeInt = 0
    """Steps, warm-up included, after which a cosine has taken the rate to 2 %; 0 keeps it."""

    def lr_at(self, step: int) -> float:
        """Return the learning rate of update `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if not self.decay_steps:
            return self.lr
        progress = (step - self.warmup_steps) / max(1, self.decay_steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.lr * (_FINAL_SHARE + (1 - _FINAL_SHARE) * cosine)


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class FineTuneConfig:
    """The part of a model that is trained."""

    mode: Literal["lora", "full"] = "lora"
    """LoRA adapters, or all weights (of the encoder: all of its language model)."""
    rank: PositiveInt = 32
    """Rank of the LoRA adapters."""
    alpha: PositiveInt = 64
    """LoRA scale is alpha / rank."""
