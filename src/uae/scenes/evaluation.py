"""Evaluation on held-out scenes: everything that is measured before and after each stage.

Pure functions of what the models made: captions, answers, drawn images, similarities. Every metric
keeps its samples, row i being the same scene, question or prompt at every evaluation point, so that
intervals and paired differences are made elsewhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from uae.report.tables import Better, Metric
from uae.scenes.drawability import DrawabilitySamples
from uae.scenes.generation import GenerationSamples
from uae.scenes.graph import Scene, scene_at
from uae.scenes.reading import read_caption
from uae.scenes.understanding import AnswerSamples, CaptionSamples, caption_samples, score_caption


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneEvaluation:
    """One evaluation point; None is not measured. Row i of each part belongs to scene i."""

    captions: CaptionSamples | None = None
    num_caption_tokens: Float[np.ndarray, " n"] | None = None
    answers: AnswerSamples | None = None
    generation_raw: GenerationSamples | None = None
    generation_long: GenerationSamples | None = None
    drawability: DrawabilitySamples | None = None


@cache
def held_out_scenes(num: int, seed: int = 0) -> tuple[Scene, ...]:
    """Return the first scenes of the test split."""
    return tuple(scene_at(index, "test", seed) for index in range(num))


def evaluate_captions(scenes: Sequence[Scene], captions: Sequence[str]) -> CaptionSamples:
    """Read captions, one for each scene, and compare them with the truth."""
    return caption_samples(
        [
            score_caption(scene, read_caption(caption))
            for scene, caption in zip(scenes, captions, strict=True)
        ]
    )


def scene_metrics(evaluation: SceneEvaluation) -> tuple[Metric, ...]:
    """List every metric that was measured."""
    e = evaluation
    return (
        *([] if e.captions is None else _captions(e.captions)),
        *([] if e.num_caption_tokens is None else _length(e.num_caption_tokens)),
        *([] if e.answers is None else _answers(e.answers)),
        *([] if e.generation_raw is None else _generation("raw", e.generation_raw)),
        *([] if e.generation_long is None else _generation("long", e.generation_long)),
        *([] if e.drawability is None else _drawability(e.drawability)),
    )


def _captions(samples: CaptionSamples) -> Iterator[Metric]:
    def metric(
        key: str,
        name: str,
        values: Float[np.ndarray, " n"],
        note: str = "",
        better: Better = "up",
        cluster_id: Int[np.ndarray, " n"] | None = None,
    ) -> Metric:
        return Metric(
            key=f"caption/{key}",
            group="Understanding: captions",
            name=name,
            samples=values,
            cluster_id=cluster_id,
            note=note,
            better=better,
            is_headline=key in ("coverage_small", "claim_precision"),
        )

    yield metric("coverage", "objects mentioned", samples.coverage)
    for size, values in samples.coverage_by_size.items():
        yield metric(f"coverage_{size}", f"{size} objects mentioned", values)
    for attribute, values in samples.recall.items():
        yield metric(f"recall_{attribute}", f"{attribute} recall", values, "of true objects")
    for attribute, values in samples.precision.items():
        yield metric(f"precision_{attribute}", f"{attribute} precision", values, "of stated ones")
    same = "the change is over objects told at both points"
    for attribute, values in samples.accuracy.items():
        yield metric(
            f"accuracy_{attribute}",
            f"{attribute} right where told",
            values,
            same,
            cluster_id=samples.scene_index,
        )
    for size, values in samples.faithful_by_size.items():
        yield metric(
            f"faithful_{size}",
            f"{size} objects told without an error",
            values,
            same,
            cluster_id=samples.scene_index,
        )
    yield metric("whole_recall", "objects told in full", samples.whole_recall)
    yield metric("whole_precision", "mentions without an error", samples.whole_precision)
    yield metric("hallucinated", "mentions of nothing", samples.hallucinated, better="down")
    yield metric("claim_precision", "true claims", samples.claim_precision)
    yield metric("background", "background right", samples.background)


def _length(num_tokens: Float[np.ndarray, " n"]) -> Iterator[Metric]:
    yield Metric(
        key="caption/num_tokens",
        group="Understanding: captions",
        name="length in tokens",
        samples=num_tokens,
        kind="count",
        better="neither",
    )


def _answers(samples: AnswerSamples) -> Iterator[Metric]:
    note = f"{samples.num_unparsed} replies unparsed" if samples.num_unparsed else ""
    yield _overall("mcq", "Understanding: questions", samples.correct, note)
    for category, values in samples.by_category.items():
        yield _part("mcq", "Understanding: questions", category, values)


def _generation(wording: str, samples: GenerationSamples) -> Iterator[Metric]:
    key, group = f"generation_{wording}", f"Generation: {wording} prompts"
    yield _overall(key, group, samples.correct, "unweighted mean of the categories")
    for tag, values in samples.by_tag.items():
        yield _part(key, group, tag, values)


def _overall(key: str, group: str, values: Float[np.ndarray, " n"], note: str) -> Metric:
    return Metric(
        key=f"{key}/overall",
        group=group,
        name="overall",
        samples=values,
        note=note,
        is_headline=key != "generation_raw",
    )


def _part(key: str, group: str, name: str, values: Float[np.ndarray, " n"]) -> Metric:
    return Metric(key=f"{key}/{name}", group=group, name=name, samples=values)


def _drawability(samples: DrawabilitySamples) -> Iterator[Metric]:
    group = "Drawability of true captions"
    for name, values in samples.survives.items():
        yield Metric(
            key=f"drawability/{name}",
            group=group,
            name=name,
            samples=values,
            cluster_id=samples.scene_index,
            note="of true objects",
        )
    by_scene: Mapping[str, Float[np.ndarray, " n"]] = {
        "count": samples.count,
        "background": samples.background,
    }
    for name, values in by_scene.items():
        yield Metric(
            key=f"drawability/{name}", group=group, name=name, samples=values, note="of scenes"
        )
