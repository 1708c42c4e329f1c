"""A run's report, from what its folder holds: config, environment, metrics, evaluation points."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from pydantic import RootModel, TypeAdapter, ValidationError

from uae.core.errors import UsageError
from uae.core.metrics_file import METRICS
from uae.core.yaml_text import read_yaml, to_yaml
from uae.data.folder import write_image
from uae.recipe.recipe import Recipe
from uae.report.audit import Audit, verdict
from uae.report.curves import curves_from_metrics, throughput_of
from uae.report.exclusion_audit import exclusion_audit
from uae.report.page import write_report
from uae.report.sheet import StageColumn, progress_sheet
from uae.report.tables import (
    GalleryItem,
    GalleryState,
    ReportData,
    Row,
    metric_rows,
    result_in_words,
    worst_of,
)
from uae.runs.cut_captions import read_cut
from uae.train.evaluator import Evaluator, Point, pixel_audit, sizes_of
from uae.train.points import BEFORE_RL, STAGE, point_folders, point_name

REPORT, SHEET = "report.html", "before_after.png"
NUM_ON_SHEET = 4


def read_recipe(run_folder: Path) -> Recipe:
    """Read the recipe that a run was made by.

    Raises:
        UsageError: The file was changed to something else.
    """
    path = run_folder / "config.yaml"
    try:
        return TypeAdapter(Recipe).validate_python(read_yaml(path))
    except ValidationError as error:
        raise UsageError(f"{path} is not the configuration of a run: {error}") from error


def score_run(run_folder: Path, evaluator: Evaluator) -> list[Point]:
    """Score the evaluation points of a run; none is a `UsageError`."""
    folders = point_folders(run_folder)
    if not folders:
        raise UsageError(f"{run_folder} holds no evaluation yet: expected a run that has begun")
    return [evaluator.score(folder, point_name(folder)) for folder in folders]


def write_run_report(run_folder: Path, recipe: Recipe, evaluator: Evaluator) -> None:
    """Write `report.html` and `before_after.png` into a run folder."""
    points = score_run(run_folder, evaluator)
    originals = evaluator.originals(sizes_of(points[0]))
    curves = curves_from_metrics(run_folder / METRICS)
    audits = (
        *verdict(before_rl(points).audit, points[-1].audit, pixel_audit(originals)),
        *exclusion_audit(curves, samples_per_step(recipe)),
    )
    rows = metric_rows([point.metrics for point in points])
    main = next(row for row in rows if row.name == "held-out backbone")
    items = gallery(evaluator.names(), originals, points)
    shown = items[: recipe.evaluation.num_shown]
    environment = json.loads((run_folder / "environment.json").read_text())
    cut = [f"{cut}." for cut in read_cut(run_folder) if cut.num_cut]
    notes = " ".join([notes_of(recipe, before_rl(points)), *cut]).strip()
    write_report(
        run_folder / REPORT,
        ReportData(
            title=f"Unified-GRPO on {recipe.model}",
            result=result_of(recipe, points, main, audits, notes),
            reproduce=command_again(run_folder),
            config_yaml=to_yaml(RootModel[Recipe](recipe).model_dump(mode="json")),
            environment={key: str(value) for key, value in environment.items()},
            points=tuple(point.name for point in points),
            rows=rows,
            table_note=evaluator.note,
            gallery=tuple(shown),
            curves=tuple(c for c in curves if c.stage != STAGE),  # the table has the points
            audits=audits,
            throughput=throughput_of(curves, samples_per_step(recipe)),
            worst=worst_of(items),
        ),
    )
    write_sheet(run_folder / SHEET, shown[:NUM_ON_SHEET])


def command_again(run_folder: Path) -> str:
    """Return the command that repeats a run.

    It holds where the run was started: the paths in its configuration are meant from there, and so
    is the folder's own, whose name `run.json` keeps as it was given.
    """
    marker = json.loads((run_folder / "run.json").read_text())
    config = Path(marker.get("folder", run_folder), "config.yaml")
    return shlex.join(["uae", "train", "--recipe", str(config), "--out", "again"])


def result_of(
    recipe: Recipe, points: Sequence[Point], main: Row, audits: Sequence[Audit], notes: str
) -> str:
    """Say what became of held-out similarity, where there is a point to compare with."""
    if not main.overall:
        return notes
    all_rewarded = points[-1].observations.similarities.keys() <= recipe.reward.keys()
    why = ["every backbone is in the reward"] if all_rewarded else []
    return f"{result_in_words('Held-out similarity', main, audits, *why)} {notes}"


def notes_of(recipe: Recipe, last_before_rl: Point) -> str:
    """Say what must be known beside the result: the gate, and a condition that saw the image."""
    notes, gate = [], last_before_rl.gate
    if gate is not None and gate.passed:
        notes.append("Before RL the decoder passed the drawability gate.")
    elif gate is not None:
        notes.append(f"Before RL the decoder did not pass the drawability gate: {gate.finding}.")
    if recipe.cold_start.num_steps and recipe.cold_start.condition == "image":
        notes.append(
            "The cold start drew from states that had seen the image (condition: image), not "
            "from the caption alone."
        )
    return " ".join(notes)


def write_sheet(path: Path, items: Sequence[GalleryItem]) -> None:
    """Draw images as one picture, with what each evaluation point made of them."""
    columns = [
        StageColumn(
            title=states[0].point,
            captions=[state.caption for state in states],
            redraws=[state.redraw for state in states if state.redraw is not None],
            similarities=[state.held_out_similarity for state in states],
        )
        for states in zip(*(item.states for item in items), strict=True)
    ]
    write_image(progress_sheet([item.original for item in items], columns), path)


def gallery(
    names: Sequence[str],
    originals: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    points: Sequence[Point],
) -> list[GalleryItem]:
    """Follow every held-out image through the evaluation points."""
    return [
        GalleryItem(
            names[i],
            Image.fromarray(original),
            tuple(
                GalleryState(
                    point.name,
                    point.observations.captions[i],
                    Image.fromarray(point.redraws[i]),
                    float(point.audit.reward_similarity[i]),
                    float(point.audit.held_out_similarity[i]),
                )
                for point in points
            ),
        )
        for i, original in enumerate(originals)
    ]


def before_rl(points: Sequence[Point]) -> Point:
    """Return the last point before RL, which audits compare with: pre-training is no reward."""
    return next(p for p in reversed(points) if p.name in BEFORE_RL)


def samples_per_step(recipe: Recipe) -> dict[tuple[str, str], int]:
    """Return how many captions or redraws each phase of a step handles, by (stage, phase).

    The update of joint RL is counted by its redraws, though it trains on their captions too.
    """
    encoder, decoder, cold = recipe.encoder_rl, recipe.decoder_rl, recipe.cold_start
    pairs = recipe.pretrain.batch_size
    of_encoder = encoder.num_images * encoder.captioning.num_captions
    of_decoder = decoder.num_images * decoder.captioning.num_captions
    sizes = {
        ("pretrain", "data"): pairs,
        ("pretrain", "update"): pairs,
        ("cold_start", "caption"): cold.batch_size * cold.captioning.num_captions,
        ("cold_start", "update"): cold.batch_size,
    }
    for loop, captions, num_redraws in (
        ("encoder_rl", of_encoder, encoder.num_redraws),
        ("decoder_rl", of_decoder, decoder.num_redraws),
        ("joint", of_encoder, decoder.num_redraws),
    ):
        redraws = captions * num_redraws
        sizes |= {(loop, "caption"): captions, (loop, "redraw"): redraws, (loop, "score"): redraws}
        sizes[loop, "update"] = captions if loop == "encoder_rl" else redraws
    return sizes
