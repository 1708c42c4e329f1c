"""Evaluation points of a run: observed once, written down, shown, held against the gate."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Literal

from PIL import Image

from uae.core.errors import RunFailed
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.plan import turns_of
from uae.recipe.recipe import Recipe
from uae.report.statistics import estimate
from uae.report.tables import Metric
from uae.rewards.reward import Reward
from uae.runs.folder import CONFIG
from uae.runs.metrics import Metrics
from uae.runs.progress import Progress
from uae.runs.tracking import SampleRow
from uae.train.evaluator import Evaluator, Point, sizes_of
from uae.train.observe import Began, ShowProgress, in_silence, observe

log = logging.getLogger(__name__)

EVALUATIONS = "evaluations"
STAGE = "evaluation"
"""Name of a point's line in metrics.jsonl; its step is the point's number."""
BEFORE_RL = ("start", "pretrain", "cold_start")
"""Points of a model that RL has not touched."""


def evaluate_point(
    name: str,
    run_folder: Path,
    evaluator: Evaluator,
    model: UnifiedAutoEncoder,
    untrained: Began | Literal["same"] | None,
    backbones: Mapping[str, Reward],
    show: ShowProgress = in_silence,
) -> Path:
    """Observe the model at a point of the run, unless that is done; return the point's folder.

    `untrained` is the pair that the run began with, which redraws for the swap test.
    """
    done = point_folders(run_folder)
    for folder in done:
        if point_name(folder) == name:
            return folder
    folder = run_folder / EVALUATIONS / f"{len(done)}-{name}"
    subjects = evaluator.subjects(model, show)
    if name not in BEFORE_RL:  # the gate is held before RL, by the untrained encoder
        subjects = replace(subjects, read_back="")
    observe(model, untrained, backbones, subjects, evaluator.config, folder, show)
    return folder


def point_folders(run_folder: Path) -> list[Path]:
    """Return the evaluation points of a run, in order."""
    folders = [f for f in (run_folder / EVALUATIONS).glob("[0-9]*-*") if f.is_dir()]
    return sorted(folders, key=point_number)


def point_number(folder: Path) -> int:
    """Return a point's place in its run, from 0."""
    return int(folder.name.partition("-")[0])


def point_name(folder: Path) -> str:
    """Return the name that a point was given."""
    return folder.name.partition("-")[2]


def shown_as(title: str, progress: Progress) -> ShowProgress:
    """Show an evaluation's batches as progress, with the rate of each of its parts."""
    return lambda what, done, total: progress.show(f"{title}: {what}", done, total, unit="image")


def record_point(folder: Path, metrics: Metrics, evaluator: Evaluator, num_shown: int) -> None:
    """Write a point's headline numbers and show its first pictures, unless that is done."""
    number = point_number(folder)
    if metrics.holds(number, STAGE):
        return
    point = evaluator.score(folder, point_name(folder))
    metrics.table(number, STAGE, sample_rows(point, evaluator, num_shown))
    means = headlines(point.metrics, evaluator.headlines)
    metrics.write_at(number, STAGE, means, session=STAGE)


def sample_rows(point: Point, evaluator: Evaluator, num_shown: int) -> list[SampleRow]:
    """Return the first held-out images with their captions, redraws and rewards."""
    originals = evaluator.originals(sizes_of(point))[:num_shown]
    return [
        SampleRow(
            image=Image.fromarray(original),
            caption=point.observations.captions[i],
            redraw=Image.fromarray(point.redraws[i]),
            reward=float(point.audit.reward_similarity[i]),
        )
        for i, original in enumerate(originals)
    ]


def headlines(metrics: Sequence[Metric], keys: Sequence[str]) -> dict[str, float]:
    """Return the means of the metrics in `keys` that have a sample."""
    by_key = {metric.key: metric for metric in metrics}
    means = {key: estimate(by_key[key].samples).value for key in keys if key in by_key}
    return {key: mean for key, mean in means.items() if math.isfinite(mean)}


def check_gate(recipe: Recipe, run_folder: Path, model: str | Path, evaluator: Evaluator) -> None:
    """Say what encoder RL, begun from `model`, would make the encoder forget.

    Raises:
        RunFailed: The gate failed, and the recipe stops at that.
    """
    trained = {turn.side for turn in turns_of(recipe)}
    if recipe.gate == "off" or not trained & {"encoder", "joint"}:
        return
    before = [folder for folder in point_folders(run_folder) if point_name(folder) in BEFORE_RL]
    gate = evaluator.score(before[-1], point_name(before[-1])).gate
    if gate is None or gate.passed:
        return
    finding = f"the decoder does not pass the drawability gate: {gate.finding}; {gate.consequence}"
    if recipe.gate == "warn":
        log.warning("%s", finding)
        return
    config = quote(str(run_folder / CONFIG))
    again = f"uae train --recipe {config} --out NEW --model {quote(str(model))}"
    raise RunFailed(
        f"{finding}\nThe run ends here (gate: stop); {run_folder} keeps all that is done. To train "
        f"the decoder on from here:\n  {again} --pretrain.num-steps MORE\n"
        f"To begin RL all the same:\n  {again} --pretrain.num-steps 0 --cold-start.num-steps 0 "
        "--gate warn"
    )
