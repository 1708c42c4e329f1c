"""Checks before a run's folder is made: a mistake found later costs hours."""

import logging
from pathlib import Path

from uae.core.errors import UsageError
from uae.data.folder import list_images
from uae.models.hub import found
from uae.models.narrow import check_elsewhere, check_narrow
from uae.models.settings import ModelSettings, Reference, find_settings, resolve
from uae.models.vlm.table import check_learning
from uae.recipe.placement import NARROW
from uae.recipe.plan import turns_of
from uae.recipe.recipe import Recipe
from uae.recipe.sampling import SamplingConfig
from uae.rewards.places import rewarding
from uae.runs.tracking import check_installed
from uae.train.evaluator import Evaluator

log = logging.getLogger(__name__)


def check_inputs(recipe: Recipe, evaluator: Evaluator) -> None:
    """Look for all that a run needs.

    Raises:
        UsageError: Data or model are missing, or do not fit the recipe; names the key.
        EnvironmentFault: trackio, bitsandbytes or DreamSim is asked for and not installed.
    """
    if recipe.data.folder:
        list_images(recipe.data.folder)
    settings = find_settings(recipe.model)
    rewarding(recipe.reward, settings.similarity, "reward.")
    sees_images = recipe.cold_start.num_steps and recipe.cold_start.condition == "image"
    if sees_images and settings.condition == "native":
        raise UsageError(
            "cold_start.condition is image: the model reads captions natively, as text alone; "
            "expected text"
        )
    if {turn.side for turn in turns_of(recipe)} & {"encoder", "joint"}:
        _check_learning(recipe.model, settings)
    if (precision := recipe.placement.frozen) in NARROW:
        check_elsewhere(settings, f"placement.frozen: {precision}")
        check_narrow(precision)
    if recipe.track:
        check_installed()
    evaluator.check()
    _say_unused(recipe, settings)


def _check_learning(model: str, settings: ModelSettings) -> None:
    """Refuse encoder RL of a model that can only caption."""
    inside = Reference(source=str(Path(resolve(model)) / "encoder"))
    reference = settings.parts.get("encoder", inside)
    with found("encoder_rl", reference.source):
        check_learning(reference.source, reference.commit or "main", "encoder_rl")


def _say_unused(recipe: Recipe, settings: ModelSettings) -> None:
    """Name settings that are allowed and do less than they say."""
    limit = settings.max_caption_tokens
    for section in ("encoder_rl", "decoder_rl", "cold_start"):
        config = getattr(recipe, section)
        longest = config.captioning.max_new_tokens
        if config.num_steps and longest > limit:
            log.warning(
                f"{section}.captioning.max_new_tokens is {longest}: the decoder was trained for "
                f"{limit} tokens, and may ignore what stands after them"
            )
    if settings.similarity.keys() <= recipe.reward.keys():
        log.warning(
            f"reward: {', '.join(recipe.reward)} are all of the model's similarity backbones: none "
            "is held out, so the report cannot tell a better redraw from one that pleases the "
            "reward; leave one out"
        )
    if recipe.schedule == "joint":
        log.info(
            "schedule: joint takes a step's images and captions from encoder_rl and its redraws "
            "from decoder_rl; alternate_every, encoder_rl.num_redraws, encoder_rl.sampling, "
            "decoder_rl.num_images and decoder_rl.captioning are not used"
        )


def say_cost(evaluator: Evaluator, num_points: int, sampling: SamplingConfig) -> None:
    """Say what evaluations will draw."""
    guidance = " with guidance" if sampling.guidance_scale != 1.0 else ""
    log.info(
        f"{num_points} evaluations: each captions {len(evaluator.names())} images and draws up to "
        f"{evaluator.num_drawn()}, by {sampling.num_steps} steps{guidance}"
    )
