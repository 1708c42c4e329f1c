"""A run's report, from what its folder holds: config, environment, metrics, evaluation points."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from pydantic import TypeAdapter

from uae.data.scenes.graph import scene_at
from uae.data.scenes.language import long_caption, prompt, short_caption
from uae.data.scenes.render import render
from uae.eval.audit import verdict
from uae.eval.config import EvaluationConfig
from uae.eval.curves import curves_from_metrics, throughput_from_metrics
from uae.eval.points import Point, pixel_audit, point_folders, score_point
from uae.eval.report import write_report
from uae.eval.report_data import (
    GalleryItem,
    GalleryState,
    ReportData,
    result_in_words,
    worst_of,
)
from uae.eval.scenes import held_out_scenes, scene_rows
from uae.models.unified import SETTINGS_FILE, resolve
from uae.rewards.text_audit import training_words

REPORT = "report.html"


def score_run(run_folder: Path) -> tuple[dict[str, Any], list[Point]]:
    """Read a run's configuration and score its evaluation points."""
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    evaluation = TypeAdapter(EvaluationConfig).validate_python(config["evaluation"])
    settings = json.loads((Path(resolve(config["model"])) / SETTINGS_FILE).read_text())
    vocabulary = known_words()
    points = [
        score_point(
            folder, evaluation, config["reward"], settings["max_caption_tokens"], vocabulary
        )
        for folder in point_folders(run_folder)
    ]
    return config, points


def known_words(num_scenes: int = 500) -> frozenset[str]:
    """Collect the words of the scenes' own language."""
    rng = np.random.default_rng(0)
    scenes = [scene_at(i, "train") for i in range(num_scenes)]
    tellers = (long_caption, short_caption, prompt)
    return training_words(tell(scene, rng) for scene in scenes for tell in tellers)


def write_run_report(run_folder: Path) -> Path:
    """Write `report.html` into a run folder."""
    config, points = score_run(run_folder)
    evaluation = TypeAdapter(EvaluationConfig).validate_python(config["evaluation"])
    scenes = held_out_scenes(evaluation.num_scenes)
    originals = np.stack([render(scene, points[0].redraws.shape[1]) for scene in scenes])
    audits = verdict(before_rl(points).audit, points[-1].audit, pixel_audit(originals))
    rows = scene_rows([point.evaluation for point in points])
    main = next(row for row in rows if row.name == "held-out backbone")
    items = gallery(originals, points)
    environment = json.loads((run_folder / "environment.json").read_text())
    failing = before_rl(points).gate.failing
    gate = (
        f" Before RL the decoder did not pass the drawability gate: {', '.join(failing)}."
        if failing
        else " Before RL the decoder passed the drawability gate."
    )
    path = run_folder / REPORT
    write_report(
        path,
        ReportData(
            title=f"Unified-GRPO on {config['model']}",
            result=result_in_words("Held-out similarity", main, audits) + gate
            if main.overall
            else gate.strip(),
            command=f"uae train --config {run_folder.name}/config.yaml",
            reproduce=f"uae train --recipe {run_folder.name}/config.yaml --out again",
            config_yaml=yaml.safe_dump(config, sort_keys=False),
            environment={key: str(value) for key, value in environment.items()},
            points=tuple(point.name for point in points),
            rows=rows,
            table_note=(f"{evaluation.num_scenes} held-out test scenes, seed {evaluation.seed}."),
            gallery=tuple(items[: evaluation.num_shown]),
            curves=curves_from_metrics(run_folder / "metrics.jsonl"),
            audits=audits,
            throughput=throughput_from_metrics(
                run_folder / "metrics.jsonl", samples_per_step(config)
            ),
            worst=worst_of(items),
        ),
    )
    return path


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
    return next(p for p in reversed(points) if p.name in ("start", "pretrain", "cold_start"))


def samples_per_step(config: dict[str, Any]) -> dict[tuple[str, str], int]:
    """Return how many captions or redraws each phase of a step handles."""
    sizes: dict[tuple[str, str], int] = {}
    encoder, decoder = config["encoder_rl"], config["decoder_rl"]
    captions = encoder["num_images"] * encoder["captioning"]["num_captions"]
    redraws = captions * encoder["num_redraws"]
    sizes |= {("encoder_rl", phase): captions for phase in ("caption", "update")}
    sizes |= {("encoder_rl", phase): redraws for phase in ("redraw", "score")}
    captions = decoder["num_images"] * decoder["captioning"]["num_captions"]
    redraws = captions * decoder["num_redraws"]
    sizes[("decoder_rl", "caption")] = captions
    sizes |= {("decoder_rl", phase): redraws for phase in ("redraw", "score", "update")}
    return sizes | {
        ("pretrain", phase): config["pretrain"]["batch_size"] for phase in ("data", "update")
    }
