"""Sizes of an evaluation."""

from pydantic import NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass as config_dataclass

from uae.core.config import STRICT


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class EvaluationConfig:
    """Evaluation on held-out images, before and after each stage."""

    num_images: PositiveInt = 64
    """Held-out images of a folder that are captioned and redrawn, at most."""
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
