"""Settings of sampling: how captions are written and how images are drawn."""

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as config_dataclass

from uae.core.config import STRICT


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class SamplingConfig:
    """Settings of drawing images from captions."""

    num_steps: PositiveInt = 8
    """Euler steps from noise to image."""
    guidance_scale: NonNegativeFloat = 1.0
    """Classifier-free guidance; 1 is without, at half the cost."""


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class CaptioningConfig:
    """Settings of sampling captions in rollouts. No top-p or top-k: they would bias the ratio."""

    num_captions: PositiveInt = 8
    """N, captions per image: the encoder's group."""
    temperature: PositiveFloat = 1.0
    """Temperature of sampling and of the log-probabilities."""
    max_new_tokens: PositiveInt = 64
    """Longest caption, in tokens."""
