"""Evaluation points of a run: observed once, scored as often as a report is written."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8

from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.evaluation import EvaluationConfig
from uae.report.audit import AuditSamples
from uae.report.pixel_audit import PixelAudit, audit_pixels
from uae.report.statistics import estimate
from uae.report.text_audit import TextAudit, audit_captions
from uae.rewards.similarity import Similarity
from uae.scenes.drawability import (
    THRESHOLDS,
    DrawabilityGate,
    drawability_gate,
    drawability_samples,
)
from uae.scenes.evaluation import (
    SceneEvaluation,
    evaluate_captions,
    held_out_scenes,
    scene_metrics,
)
from uae.scenes.generation import generation_samples
from uae.scenes.observe import (
    Observations,
    ShowProgress,
    in_silence,
    load,
    load_pictures,
    observe,
)
from uae.scenes.parser import parse
from uae.scenes.prompts import generation_prompts
from uae.scenes.understanding import answer_samples, question_set

EVALUATIONS = "evaluations"
STAGE = "evaluation"
"""What a point's line in metrics.jsonl is called; its step is the point's number."""
BEFORE_RL = ("start", "pretrain", "cold_start")
"""Points of a model that RL has not touched."""
HEADLINES = (
    "reconstruction/reward",
    "reconstruction/held_out",
    "reconstruction/swap",
    "caption/coverage",
    "caption/claim_precision",
    "caption/num_tokens",
    "mcq/overall",
    "generation_raw/overall",
    "generation_long/overall",
    *(f"drawability/{name}" for name in THRESHOLDS),
)
"""Metrics that go into metrics.jsonl; the report has all of them."""


@dataclass(frozen=True, slots=True)
class Point:
    """A scored evaluation point."""

    name: str
    observations: Observations
    redraws: UInt8[np.ndarray, "n h w 3"]
    evaluation: SceneEvaluation
    audit: AuditSamples
    gate: DrawabilityGate


def evaluate_point(
    name: str,
    run_folder: Path,
    model: UnifiedAutoEncoder,
    untrained: UnifiedAutoEncoder | None,
    backbones: dict[str, Similarity],
    config: EvaluationConfig,
    show: ShowProgress = in_silence,
) -> Path:
    """Observe the model at a point of the run, unless that is done; return the point's folder."""
    root = run_folder / EVALUATIONS
    done = point_folders(run_folder)
    for folder in done:
        if point_name(folder) == name:
            return folder
    folder = root / f"{len(done)}-{name}"
    observe(model, untrained, backbones, config, folder, show)
    return folder


def point_folders(run_folder: Path) -> list[Path]:
    """Return the evaluation points of a run, in order."""
    found = [f for f in (run_folder / EVALUATIONS).glob("[0-9]*-*") if f.is_dir()]
    return sorted(found, key=point_number)


def point_number(folder: Path) -> int:
    """Return a point's place in its run, from 0."""
    return int(folder.name.partition("-")[0])


def point_name(folder: Path) -> str:
    """Return the name that a point was given."""
    return folder.name.partition("-")[2]


def score_point(
    folder: Path,
    config: EvaluationConfig,
    reward: dict[str, float],
    max_caption_tokens: int,
    vocabulary: frozenset[str],
) -> Point:
    """Score the observations of a point.

    Args:
        folder: Written by `evaluate_point`.
        config: The same as when it was observed.
        reward: Weights of the rewarded backbones; the others are held out.
        max_caption_tokens: Longest caption the decoder was trained for.
        vocabulary: Known words, for the text audit.
    """
    seen, pictures = load(folder)
    scenes = held_out_scenes(config.num_scenes)
    parsed = {
        name: [parse(image) for image in pictures[name]]
        for name in ("generation_raw", "generation_long", "truths")
    }
    prompts = generation_prompts(config.prompts_per_category)
    questions = [a.question for a in question_set(scenes, config.num_questions, config.seed)]
    captions = evaluate_captions(scenes, seen.captions)
    drawn = drawability_samples(scenes, parsed["truths"])
    held_out = [name for name in seen.similarities if name not in reward]
    reward_similarity = weighted(seen.similarities, reward)
    held_out_similarity = weighted(seen.similarities, dict.fromkeys(held_out, 1.0))
    swap_similarity = None
    if seen.swap_similarities:
        swap_similarity = weighted(seen.swap_similarities, dict.fromkeys(held_out, 1.0))
    answers = answer_samples(questions, seen.replies)
    evaluation = SceneEvaluation(
        captions=captions,
        num_caption_tokens=np.array(seen.num_tokens, dtype=np.float64),
        answers=answers,
        generation_raw=generation_samples(prompts, parsed["generation_raw"]),
        generation_long=generation_samples(prompts, parsed["generation_long"]),
        reward_similarity=reward_similarity,
        held_out_similarity=held_out_similarity,
        swap_similarity=swap_similarity,
        drawability=drawn,
    )
    audit = AuditSamples(
        reward_similarity=reward_similarity,
        held_out_similarity=held_out_similarity,
        text=text_audit(seen, max_caption_tokens, vocabulary),
        redraws=pixel_audit(pictures["captions"]),
        swap_similarity=swap_similarity,
        caption_precision=captions.claim_precision,
        shape_accuracy=captions.precision["shape"],
        understanding=answers.correct,
    )
    name = point_name(folder)
    return Point(name, seen, pictures["captions"], evaluation, audit, drawability_gate(drawn))


def text_audit(
    seen: Observations, max_caption_tokens: int, vocabulary: frozenset[str]
) -> TextAudit:
    """Audit the captions of a point."""
    return audit_captions(
        seen.captions,
        num_tokens=seen.num_tokens,
        max_tokens=max_caption_tokens,
        truncated=seen.truncated,
        vocabulary=vocabulary,
    )


def gate_before_rl(run_folder: Path, config: EvaluationConfig) -> DrawabilityGate:
    """Hold the last point before RL against the gate, from the pictures it kept."""
    folders = [f for f in point_folders(run_folder) if point_name(f) in BEFORE_RL]
    redraws = [parse(image) for image in load_pictures(folders[-1] / "truths.png")]
    return drawability_gate(drawability_samples(held_out_scenes(config.num_scenes), redraws))


def headlines(evaluation: SceneEvaluation) -> dict[str, float]:
    """Return the means of the metrics in `HEADLINES` that have a sample."""
    metrics = {metric.key: metric for metric in scene_metrics(evaluation)}
    means = {key: estimate(metrics[key].samples).value for key in HEADLINES if key in metrics}
    return {key: mean for key, mean in means.items() if math.isfinite(mean)}


def weighted(values: dict[str, list[float]], weights: dict[str, float]) -> Float[np.ndarray, " n"]:
    """Return the weighted mean over backbones, NaN without any."""
    total = sum(weights.values())
    num_rows = len(next(iter(values.values())))
    if not total:
        return np.full(num_rows, math.nan)
    return sum(
        (weight / total * np.array(values[name]) for name, weight in weights.items()),
        start=np.zeros(num_rows),
    )


def pixel_audit(images: UInt8[np.ndarray, "n h w 3"]) -> PixelAudit:
    """Measure brightness, high frequencies and strokes of images."""
    return audit_pixels(rearrange(images, "n h w c -> n c h w").astype(np.float64) / 255)
