"""Settings of the encoder side of Unified-GRPO."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as config_dataclass

from uae.core.config import STRICT, OpenShare
from uae.recipe.optimizer import OptimizerConfig
from uae.recipe.sampling import CaptioningConfig, SamplingConfig


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class EncoderRLConfig:
    """Encoder side of Unified-GRPO."""

    num_steps: NonNegativeInt = 0
    """Steps of this side; 0 leaves it out."""
    num_images: PositiveInt = 16
    """Images per step."""
    captioning: CaptioningConfig = Field(default_factory=CaptioningConfig)
    """How the N captions of an image are sampled."""
    num_redraws: PositiveInt = 1
    """M, redraws per caption; a caption's reward is their mean."""
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    """How captions are redrawn."""
    micro_redraws: PositiveInt = 64
    """Images drawn at once; changes speed and memory, not the result."""
    optimizer: OptimizerConfig = Field(default_factory=lambda: OptimizerConfig(lr=1e-6))
    """Optimizer of the encoder."""
    num_updates: PositiveInt = 1
    """Optimizer steps per rollout."""
    micro_images: PositiveInt = 16
    """Images per backward pass; changes memory, not the result."""
    clip_low: OpenShare = 0.2
    """The ratio is clipped below 1 - clip_low."""
    clip_high: PositiveFloat = 0.28
    """The ratio is clipped above 1 + clip_high."""
    kl_beta: NonNegativeFloat = 1e-6
    """Weight of the k3 KL to the encoder before RL."""
    advantage_scale: Literal["group", "global", "none"] = "group"
    """What advantages are divided by: the group's spread, all rewards' spread, or nothing."""
    normalization: Literal["tokens", "constant"] = "tokens"
    """What the loss is divided by: the step's tokens, or captions x max_new_tokens."""
