"""Settings of fine-tuning: adapters or whole weights."""

from typing import Literal

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass as config_dataclass

from uae.core.config import STRICT


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class FineTuneConfig:
    """The part of a model that is trained."""

    mode: Literal["lora", "full"] = "lora"
    """LoRA adapters, or all weights (of the encoder: all of its language model)."""
    rank: PositiveInt = 32
    """Rank of the LoRA adapters."""
    alpha: PositiveInt = 64
    """LoRA scale is alpha / rank."""
