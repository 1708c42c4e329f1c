"""A recipe: everything a run does, as one configuration; and the plan of stages it makes.

Stages run in the order pretrain, cold_start, rl. Each starts from a model folder (the recipe's
model, or the stage before) and ends in one, so each can be run alone.
"""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from pydantic.dataclasses import dataclass as config_dataclass

from uae.core.config import STRICT, Share
from uae.recipe.decoder_rl import DecoderRLConfig
from uae.recipe.encoder_rl import EncoderRLConfig
from uae.recipe.optimizer import FineTuneConfig
from uae.recipe.placement import PlacementConfig
from uae.recipe.supervised import ColdStartConfig, PretrainConfig

Schedule = Literal["encoder", "decoder", "alternate", "joint"]
Gate = Literal["warn", "stop", "off"]


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class DataConfig:
    """Sources of training images."""

    folder: str = ""
    """A folder of images, with or without captions; empty for rendered scenes."""
    held_out_share: Share = 0.1
    """Share of a folder's images that is never trained on, chosen by name: what the run is measured
    by. 0 trains on all and measures on scenes."""
    num_scenes: PositiveInt = 20_000
    """Number of training scenes, where no folder is given."""
    prompt_share: Share = 0.0
    """Share of scenes told by a short prompt ("a photo of ...") instead of a long caption."""
    terse_share: Share = 0.0
    """Share of scenes told in one sentence that lists every object."""


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class EvaluationConfig:
    """Evaluation on held-out images, before and after each stage."""

    num_images: Annotated[int, Field(ge=2)] = 64
    """Held-out images of a folder that are captioned and redrawn, at most; an interval needs 2."""
    num_scenes: PositiveInt = 256
    """Held-out test scenes for captions, reconstructions and drawability."""
    prompts_per_category: PositiveInt = 20
    """Prompts for each of GenEval's six categories, raw and long."""
    num_questions: PositiveInt = 40
    """Questions of each subtask."""
    num_shown: PositiveInt = 8
    """Fixed held-out images followed through the run, in pictures."""
    micro_batch: PositiveInt = 64
    """Images captioned or drawn at once."""
    seed: NonNegativeInt = 1234
    """Seed of captions, noise and questions: the same before and after."""


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """One run of Unified-GRPO, from image-caption pairs to a report."""

    model: str = "uae-tiny"
    """Model folder, preset or ID@REVISION on the hub to start from."""
    seed: NonNegativeInt = 0
    """Seed of every random draw."""
    device: str = "auto"
    """Device of the models: cpu, cuda or cuda:1; auto takes a GPU if there is one."""
    placement: PlacementConfig = Field(default_factory=PlacementConfig)
    """Precision and memory of the models."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Training images."""
    reward: dict[str, NonNegativeFloat] = Field(default_factory=lambda: {"clip": 1.0})
    """Weights of the model's similarity backbones in the reward."""
    tune_encoder: FineTuneConfig = Field(default_factory=FineTuneConfig)
    """What is trained of the encoder in RL."""
    tune_decoder: FineTuneConfig = Field(default_factory=FineTuneConfig)
    """What is trained of the decoder in RL."""
    pretrain: PretrainConfig = Field(default_factory=PretrainConfig)
    """Stage 1, long-context pre-training."""
    tune_pretrain: FineTuneConfig = Field(default_factory=lambda: FineTuneConfig(mode="full"))
    """What is trained of the decoder in stage 1 and in the cold start."""
    cold_start: ColdStartConfig = Field(default_factory=ColdStartConfig)
    """Stage 1b, optional."""
    schedule: Schedule = "alternate"
    """Sides that RL trains; `alternate` takes turns, encoder first, `joint` updates both."""
    alternate_every: NonNegativeInt = 0
    """Steps of a turn under `alternate`; 0 gives each side one turn, the paper's two stages."""
    encoder_rl: EncoderRLConfig = Field(default_factory=EncoderRLConfig)
    """Stage 2, generation for understanding."""
    decoder_rl: DecoderRLConfig = Field(default_factory=DecoderRLConfig)
    """Stage 3, understanding for generation."""
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    """Evaluation on held-out images between the stages."""
    gate: Gate = "warn"
    """Where the decoder fails the drawability gate before encoder RL: warn, stop there, or off."""
    checkpoint_every: PositiveInt = 10
    """Steps between checkpoints."""
    track: bool = False
    """Write metrics and sample tables to trackio too (extra `track`)."""

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        check_divides("encoder_rl", self.encoder_rl.num_images, self.encoder_rl.micro_images)
        check_divides("decoder_rl", self.decoder_rl.num_images, self.decoder_rl.micro_images)
        if self.decoder_rl.num_steps and self.schedule != "encoder":
            self.decoder_rl.objective.check(self.decoder_rl.num_sampling_steps)
        if not any(self.reward.values()):
            raise ValueError(
                f"reward: {self.reward} gives no reward; expected a backbone with a weight "
                "above 0, e.g. {clip: 1.0}"
            )
        check_groups(self)
        if self.schedule == "joint" and self.encoder_rl.num_steps != self.decoder_rl.num_steps:
            raise ValueError(
                "schedule: joint updates both sides each step, but encoder_rl.num_steps is "
                f"{self.encoder_rl.num_steps} and decoder_rl.num_steps "
                f"{self.decoder_rl.num_steps}: set them equal"
            )
        return self


def check_groups(recipe: Recipe) -> None:
    """Refuse a group of one, which teaches nothing."""
    sizes = {}
    if recipe.encoder_rl.num_steps and recipe.schedule != "decoder":
        sizes["encoder_rl.captioning.num_captions"] = recipe.encoder_rl.captioning.num_captions
    if recipe.decoder_rl.num_steps and recipe.schedule != "encoder":
        sizes["decoder_rl.num_redraws"] = recipe.decoder_rl.num_redraws
    for key, size in sizes.items():
        if size < 2:
            raise ValueError(
                f"{key} {size}: an advantage compares the samples of a group, expected at least 2"
            )


def check_divides(section: str, num_images: int, micro_images: int) -> None:
    """Refuse a step that does not split into equal micro-batches; say what would fit."""
    if num_images % micro_images:
        fitting = [m for m in range(1, num_images + 1) if num_images % m == 0]
        near = min(fitting, key=lambda m: abs(m - micro_images))
        raise ValueError(
            f"{section}.num_images {num_images} is not a multiple of {section}.micro_images "
            f"{micro_images} ({num_images} = {num_images // micro_images} x {micro_images} + "
            f"{num_images % micro_images}): set micro_images to {near} or num_images to "
            f"{max(1, num_images // micro_images) * micro_images}"
        )
