"""A run's report, from what its folder holds: config, environment, metrics, evaluation points."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from uae.core.errors import UsageError
from uae.core.yaml_text import read_yaml, to_yaml
from uae.data.folder import write_image
from uae.models.settings import read_settings, resolve
from uae.recipe.evaluation import EvaluationConfig
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
    result_in_words,
    worst_of,
)
from uae.report.text_audit import training_words
from uae.runs.metrics_file import METRICS
from uae.scenes.drawability import shares_in_words
from uae.scenes.evaluation import held_out_scenes, scene_rows
from uae.scenes.graph import scene_at
from uae.scenes.language import long_caption, prompt, short_caption
from uae.scenes.points import BEFORE_RL, STAGE, Point, pixel_audit, point_folders, score_point
from uae.scenes.render import render

REPORT, SHEET = "report.html", "before_after.png"
NUM_ON_SHEET = 4


def read_config(run_folder: Path) -> tuple[dict[str, Any], EvaluationConfig]:
    """Read a run's configuration, and the part that says how much was evaluated.

    Raises:
        UsageError: The file was changed to something else.
    """
    path = run_folder / "config.yaml"
    try:
        config = read_yaml(path)
        return config, TypeAdapter(EvaluationConfig).validate_python(config["evaluation"])
    except (ValidationError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not the configuration of a run: {error}") from error


def score_run(run_folder: Path) -> tuple[dict[str, Any], list[Point]]:
    """Read a run's configuration and score its evaluation points.

    Raises:
        UsageError: There are none.
    """
    config, evaluation = read_config(run_folder)
    limit = read_settings(Path(resolve(config["model"]))).max_caption_tokens
    vocabulary = known_words()
    points = [
        score_point(folder, evaluation, config["reward"], limit, vocabulary)
        for folder in point_folders(run_folder)
    ]
    if not points:
        raise UsageError(f"{run_folder} holds no evaluation yet: expected a run that has begun")
    return config, points


def known_words(num_scenes: int = 500) -> frozenset[str]:
    """Collect the words of the scenes' own language."""
    rng = np.random.default_rng(0)
    scenes = [scene_at(i, "train") for i in range(num_scenes)]
    tellers = (long_caption, short_caption, prompt)
    return training_words(tell(scene, rng) for scene in scenes for tell in tellers)


def write_run_report(run_folder: Path) -> Path:
    """Write `report.html` and `before_after.png` into a run folder."""
    config, points = score_run(run_folder)
    _, evaluation = read_config(run_folder)
    scenes = held_out_scenes(evaluation.num_scenes)
    originals = np.stack([render(scene, points[0].redraws.shape[1]) for scene in scenes])
    curves = curves_from_metrics(run_folder / METRICS)
    audits = (
        *verdict(before_rl(points).audit, points[-1].audit, pixel_audit(originals)),
        *exclusion_audit(curves, samples_per_step(config)),
    )
    rows = scene_rows([point.evaluation for point in points])
    main = next(row for row in rows if row.name == "held-out backbone")
    items = gallery(originals, points)
    environment = json.loads((run_folder / "environment.json").read_text())
    notes = notes_of(config, before_rl(points))
    path = run_folder / REPORT
    write_report(
        path,
        ReportData(
            title=f"Unified-GRPO on {config['model']}",
            result=result_of(config, points, main, audits, notes),
            reproduce=command_again(run_folder),
            config_yaml=to_yaml(config),
            environment={key: str(value) for key, value in environment.items()},
            points=tuple(point.name for point in points),
            rows=rows,
            table_note=(f"{evaluation.num_scenes} held-out test scenes, seed {evaluation.seed}."),
            gallery=tuple(items[: evaluation.num_shown]),
            curves=tuple(c for c in curves if c.stage != STAGE),  # the table has the points
            audits=audits,
            throughput=throughput_of(curves, samples_per_step(config)),
            worst=worst_of(items),
        ),
    )
    write_sheet(run_folder / SHEET, items[: min(NUM_ON_SHEET, evaluation.num_shown)])
    return path


def command_again(run_folder: Path) -> str:
    """Return the command that repeats a run.

    It holds where the run was started: the paths in its configuration are meant from there, and so
    is the folder's own, whose name `run.json` keeps as it was given.
    """
    marker = json.loads((run_folder / "run.json").read_text())
    config = Path(marker.get("folder", run_folder), "config.yaml")
    return shlex.join(["uae", "train", "--recipe", str(config), "--out", "again"])


def result_of(
    config: dict[str, Any], points: Sequence[Point], main: Row, audits: Sequence[Audit], notes: str
) -> str:
    """Say what became of held-out similarity, where there is a point to compare with."""
    if not main.overall:
        return notes
    subject = "Held-out similarity"
    if points[-1].observations.similarities.keys() <= config["reward"].keys():
        said = result_in_words(subject, main, audits, "every backbone is in the reward")
    else:
        said = result_in_words(subject, main, audits)
    return f"{said} {notes}"


def notes_of(config: dict[str, Any], point: Point) -> str:
    """Say what must be known beside the result: the gate, and a condition that saw the image.

    Args:
        config: Of the run.
        point: The last one before RL.
    """
    notes = "Before RL the decoder passed the drawability gate."
    if not point.gate.passed:
        notes = (
            "Before RL the decoder did not pass the drawability gate: of true captions its "
            f"redraws kept {shares_in_words(point.gate, point.gate.failing)}."
        )
    if config["cold_start"]["num_steps"] and config["cold_start"]["condition"] == "image":
        notes += (
            " The cold start drew from states that had seen the image (condition: image), not "
            "from the caption alone."
        )
    return notes


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


def gallery(originals: np.ndarray, points: Sequence[Point]) -> list[GalleryItem]:
    """Follow every held-out image through the evaluation points."""
    return [
        GalleryItem(
            f"test-{i:06d}",
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


def samples_per_step(config: dict[str, Any]) -> dict[tuple[str, str], int]:
    """Return how many captions or redraws each phase of a step handles, by (stage, phase).

    The update of joint RL is counted by its redraws, though it trains on their captions too.
    """
    encoder, decoder, cold = config["encoder_rl"], config["decoder_rl"], config["cold_start"]
    pairs = config["pretrain"]["batch_size"]
    of_encoder, of_decoder = _num_captions(encoder), _num_captions(decoder)
    told = of_encoder * encoder["num_redraws"]
    drawn = of_decoder * decoder["num_redraws"]
    both = of_encoder * decoder["num_redraws"]
    sizes = {
        "pretrain": {"data": pairs, "update": pairs},
        "cold_start": {
            "caption": cold["batch_size"] * cold["captioning"]["num_captions"],
            "update": cold["batch_size"],
        },
        "encoder_rl": {"caption": of_encoder, "redraw": told, "score": told, "update": of_encoder},
        "decoder_rl": {"caption": of_decoder, "redraw": drawn, "score": drawn, "update": drawn},
        "joint": {"caption": of_encoder, "redraw": both, "score": both, "update": both},
    }
    return {(stage, phase): n for stage, phases in sizes.items() for phase, n in phases.items()}


def _num_captions(side: dict[str, Any]) -> int:
    return side["num_images"] * side["captioning"]["num_captions"]
