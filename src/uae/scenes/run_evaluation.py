"""What a run does at an evaluation point: observe, write down, show, and hold against the gate."""

import logging
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from PIL import Image

from uae.core.errors import RunFailed
from uae.recipe.evaluation import EvaluationConfig
from uae.recipe.recipe import Recipe, turns_of
from uae.runs.folder import CONFIG
from uae.runs.metrics import Metrics
from uae.runs.progress import Progress
from uae.runs.tracking import SampleRow
from uae.scenes.drawability import consequence_in_words, shares_in_words
from uae.scenes.evaluation import held_out_scenes
from uae.scenes.observe import ShowProgress
from uae.scenes.points import (
    STAGE,
    Point,
    gate_before_rl,
    headlines,
    point_number,
    score_point,
)
from uae.scenes.render import render
from uae.scenes.run_report import known_words

log = logging.getLogger(__name__)


def shown_as(title: str, progress: Progress) -> ShowProgress:
    """Show an evaluation's batches as progress, with the rate of each of its parts."""
    return lambda what, done, total: progress.show(f"{title}: {what}", done, total, unit="image")


def record_point(
    folder: Path,
    metrics: Metrics,
    config: EvaluationConfig,
    reward: Mapping[str, float],
    max_caption_tokens: int,
) -> None:
    """Write a point's headline numbers and show its pictures, unless that is done.

    Args:
        folder: Written by `evaluate_point`.
        metrics: Of the run.
        config: The same as when it was observed.
        reward: Weights of the rewarded backbones; the others are held out.
        max_caption_tokens: Longest caption the decoder was trained for.
    """
    number = point_number(folder)
    if metrics.holds(number, STAGE):
        return
    point = score_point(folder, config, dict(reward), max_caption_tokens, known_words())
    metrics.table(number, STAGE, sample_rows(point, config.num_shown))
    metrics.write_at(number, STAGE, headlines(point.evaluation), session=STAGE)


def sample_rows(point: Point, num_shown: int) -> list[SampleRow]:
    """Return the first held-out images with their captions, redraws and rewards."""
    seen, audit = point.observations, point.audit
    return [
        SampleRow(
            image=Image.fromarray(render(scene, point.redraws.shape[1])),
            caption=seen.captions[i],
            redraw=Image.fromarray(point.redraws[i]),
            reward=float(audit.reward_similarity[i]),
        )
        for i, scene in enumerate(held_out_scenes(min(num_shown, len(seen.captions))))
    ]


def check_gate(recipe: Recipe, run_folder: Path, model: str | Path) -> None:
    """Say what encoder RL would make the encoder forget, before it begins.

    Args:
        recipe: Of the run; its `gate` says what a failure means.
        run_folder: Holds the evaluation points up to here.
        model: The folder or preset that RL would start from.

    Raises:
        RunFailed: The gate failed, and the recipe stops at that.
    """
    trained = {turn.side for turn in turns_of(recipe)}
    if recipe.gate == "off" or not trained & {"encoder", "joint"}:
        return
    gate = gate_before_rl(run_folder, recipe.evaluation)
    if gate.passed:
        return
    said = (
        "the decoder does not pass the drawability gate: of true captions its redraws keep "
        f"{shares_in_words(gate, gate.failing)}; {consequence_in_words(gate)}"
    )
    if recipe.gate == "warn":
        log.warning("%s", said)
        return
    config = quote(str(run_folder / CONFIG))
    again = f"uae train --recipe {config} --out NEW --model {quote(str(model))}"
    raise RunFailed(
        f"{said}\nThe run ends here (gate: stop); {run_folder} keeps all that is done. To train "
        f"the decoder on from here:\n  {again} --pretrain.num-steps MORE\n"
        f"To begin RL all the same:\n  {again} --pretrain.num-steps 0 --cold-start.num-steps 0 "
        "--gate warn"
    )
