"""Settings of the stages before RL: long-context pre-training and the cold start."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as config_dataclass

from uae.core.config import STRICT, Share
from uae.recipe.optimizer import OptimizerConfig
from uae.recipe.sampling import CaptioningConfig, SamplingConfig


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class PretrainConfig:
    """Stage 1."""

    num_steps: NonNegativeInt = 0
    """Steps; 0 leaves the stage out."""
    batch_size: PositiveInt = 32
    """Image-caption pairs per step."""
    micro_batch: PositiveInt = 32
    """Pairs per backward pass; changes memory, not the result."""
    optimizer: OptimizerConfig = Field(default_factory=lambda: OptimizerConfig(lr=1e-4))
    """Optimizer of projector and decoder."""
    condition_dropout: Share = 0.1
    """Share of captions replaced by the negative caption, which guidance needs."""
    sigma_mean: float = 0.0
    """Mean of the logit of sigma."""
    sigma_std: NonNegativeFloat = 1.0
    """Standard deviation of the logit of sigma."""
    distilled_guidance_scale: PositiveFloat = 1.0
    """Guidance scale to distil into the weights; 1 learns from the images themselves."""


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class ColdStartConfig:
    """Stage 1b."""

    num_steps: NonNegativeInt = 0
    """Steps; 0 leaves the stage out."""
    batch_size: PositiveInt = 16
    """Images per step."""
    micro_batch: PositiveInt = 16
    """Images per backward pass; changes memory, not the result."""
    condition: Literal["text", "image"] = "text"
    """The caption's text, or states that attended to the image (the paper's code)."""
    captioning: CaptioningConfig = Field(
        default_factory=lambda: CaptioningConfig(num_captions=1, temperature=0.7)
    )
    """How captions are sampled."""
    sampling: SamplingConfig = Field(default_factory=lambda: SamplingConfig(num_steps=4))
    """The render that gradients pass through; memory grows with its steps."""
    optimizer: OptimizerConfig = Field(default_factory=lambda: OptimizerConfig(lr=1e-5))
    """Optimizer of projector and decoder."""
