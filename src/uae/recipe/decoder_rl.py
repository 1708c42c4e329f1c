"""Settings of the decoder side of Unified-GRPO, and of each of its objectives."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
)
from pydantic.dataclasses import dataclass as config_dataclass

from uae.core.config import STRICT, OpenShare
from uae.recipe.optimizer import OptimizerConfig
from uae.recipe.sampling import CaptioningConfig


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class FlowGrpoConfig:
    """Flow-GRPO (arXiv 2505.05470): the likelihood of stochastic sampling steps."""

    name: Literal["flow_grpo"] = "flow_grpo"
    """Its name; `flow_grpo` compares sampling steps, `awm` and `nft` drawn images."""
    start: Literal["group", "redraw"] = "group"
    """Starting noise: one for the redraws of a caption, which then differ by the window alone, or
    one for each redraw (the paper), whose luck the window cannot explain."""
    window: PositiveInt = 2
    """Consecutive stochastic steps; they are the trained ones."""
    window_starts: PositiveInt = 3
    """The window starts at step 0 .. window_starts - 1, drawn anew each step: high noise first."""
    rule: Literal["sde", "cps"] = "sde"
    """Flow-GRPO's stochastic step, or the coefficients-preserving one."""
    noise_level: PositiveFloat = 0.7
    """a of the stochastic step."""
    reduction: Literal["mean", "sum"] = "mean"
    """Of log-probabilities over latent dimensions; clip ranges scale with it."""
    kl_weighting: Literal["exact", "flow_grpo"] = "flow_grpo"
    """Scale of the KL: published betas belong to `flow_grpo`, exact but for |dt| under `sde`."""

    def check(self, num_sampling_steps: int) -> None:
        """Refuse stochastic steps that the sampler does not have, or that cannot be scored.

        Raises:
            ValueError: Shows the arithmetic and a setting that fits.
        """
        is_cps = self.rule == "cps"
        if is_cps and self.noise_level > 1:
            raise ValueError(
                f"decoder_rl.objective.noise_level {self.noise_level:g}: rule cps replaces that "
                "share of the noise, expected at most 1"
            )
        num_noisy = num_sampling_steps - is_cps  # the last step of cps has no noise
        num_needed = self.window_starts - 1 + self.window
        if num_needed > num_noisy:
            raise ValueError(
                f"decoder_rl.objective.window {self.window} may start at steps 0 to "
                f"{self.window_starts - 1} (decoder_rl.objective.window_starts "
                f"{self.window_starts}) and so needs {num_needed} noisy steps; "
                f"decoder_rl.num_sampling_steps {num_sampling_steps} has {num_noisy}: set "
                f"num_sampling_steps to {num_needed + is_cps} or more, or window + window_starts "
                f"to {num_noisy + 1} or less"
            )


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class AwmConfig:
    """Advantage-weighted matching (arXiv 2509.25050): drawn images on the forward process."""

    name: Literal["awm"] = "awm"
    """Its name."""
    num_noisings: PositiveInt = 2
    """Noisings of each image."""
    min_sigma: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """Lowest noise level of noisings, below 1: at low ones redraws of few steps mislead."""

    def check(self, num_sampling_steps: int) -> None:
        """Accept any number of sampling steps: no step of them is scored."""


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class NftConfig:
    """DiffusionNFT (arXiv 2509.16117): good and bad redraws on the forward process."""

    name: Literal["nft"] = "nft"
    """Its name."""
    num_noisings: PositiveInt = 2
    """Noisings of each image."""
    min_sigma: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """Lowest noise level of noisings, below 1: at low ones redraws of few steps mislead."""
    mix: PositiveFloat = 1.0
    """beta of equation 5: how far the positive and the negative policy lie from the old one."""

    def check(self, num_sampling_steps: int) -> None:
        """Accept any number of sampling steps: no step of them is scored."""


OBJECTIVES: dict[str, Any] = {"flow_grpo": FlowGrpoConfig, "awm": AwmConfig, "nft": NftConfig}
"""Settings of each objective by its name; `uae.rl.decoder.table` has what it does."""


def _objective(value: Any) -> Any:
    """Take the settings of the objective that is named."""
    if type(value) in OBJECTIVES.values():
        return value
    name = value.get("name", "flow_grpo") if isinstance(value, dict) else None
    if name not in OBJECTIVES:
        raise ValueError(
            f"decoder_rl.objective.name is {name!r}: expected one of {', '.join(OBJECTIVES)}"
        )
    return TypeAdapter(OBJECTIVES[name]).validate_python(value)


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class DecoderRLConfig:
    """Decoder side of Unified-GRPO."""

    num_steps: NonNegativeInt = 0
    """Steps of this side; 0 leaves it out."""
    num_images: PositiveInt = 16
    """Images per step."""
    captioning: CaptioningConfig = Field(default_factory=lambda: CaptioningConfig(num_captions=1))
    """How the captions to redraw are sampled."""
    num_redraws: PositiveInt = 8
    """M, redraws per caption: the decoder's group."""
    objective: Annotated[Any, BeforeValidator(_objective)] = Field(default_factory=FlowGrpoConfig)
    """What is compared within a group, and its settings."""
    num_sampling_steps: PositiveInt = 8
    """Steps from noise to image."""
    optimizer: OptimizerConfig = Field(default_factory=lambda: OptimizerConfig(lr=3e-4))
    """Optimizer of the decoder."""
    num_updates: PositiveInt = 1
    """Optimizer steps per rollout."""
    micro_images: PositiveInt = 8
    """Images per backward pass, with all their redraws; changes memory, not the result."""
    micro_redraws: NonNegativeInt = 0
    """Redraws per backward pass, where those of the images are too many; 0 takes them all."""
    clip: OpenShare = 1e-3
    """The ratio is clipped to 1 +- clip."""
    max_advantage: PositiveFloat = 5.0
    """Advantages are clipped to this size."""
    kl_beta: NonNegativeFloat = 0.01
    """Weight of the KL to the decoder before RL; under `awm` of the squared velocity distance,
    which is measured alone and has no gradient."""
    advantage_scale: Literal["group", "global", "none"] = "global"
    """What advantages are divided by; Flow-GRPO divides by the spread of all rewards."""
