"""Evaluation on held-out scenes: everything that is measured before and after each stage.

Pure functions of what the models made: captions, answers, drawn images, similarities. Every metric
keeps its samples, row i being the same scene, question or prompt at every evaluation point, so that
intervals and paired differences are made elsewhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

from uae.report.tables import Metric
from uae.scenes.drawability import DrawabilitySamples
from uae.scenes.generation import GenerationSamples
from uae.scenes.graph import Scene, scene_at
from uae.scenes.reading import read_caption
from uae.scenes.understanding import AnswerSamples, CaptionSamples, caption_samples, score_caption

Column = Float[np.ndarray, " n"]


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
    pairs = zip(scenes, captions, strict=True)
    return caption_samples([score_caption(scene, read_caption(text)) for scene, text in pairs])


def scene_metrics(evaluation: SceneEvaluation) -> tuple[Metric, ...]:
    """List every metric that was measured."""
    e = evaluation
    return (
        *([] if e.captions is None else _captions(e.captions)),
        *([] if e.num_caption_tokens is None else [_length(e.num_caption_tokens)]),
        *([] if e.answers is None else _answers(e.answers)),
        *([] if e.generation_raw is None else _generation("raw", e.generation_raw)),
        *([] if e.generation_long is None else _generation("long", e.generation_long)),
        *([] if e.drawability is None else _drawability(e.drawability)),
    )


def _captions(samples: CaptionSamples) -> Iterator[Metric]:
    same, objects = "the change is over objects told at both points", samples.scene_index
    rows: list[tuple[str, str, Column, str]] = [
        ("coverage", "objects mentioned", samples.coverage, ""),
        *(
            (f"coverage_{size}", f"{size} objects mentioned", values, "")
            for size, values in samples.coverage_by_size.items()
        ),
        *((f"recall_{a}", f"{a} recall", x, "of true objects") for a, x in samples.recall.items()),
        *(
            (f"precision_{a}", f"{a} precision", values, "of stated ones")
            for a, values in samples.precision.items()
        ),
        *(
            (f"accuracy_{a}", f"{a} right where told", values, same)
            for a, values in samples.accuracy.items()
        ),
        *(
            (f"faithful_{size}", f"{size} objects told without an error", values, same)
            for size, values in samples.faithful_by_size.items()
        ),
        ("whole_recall", "objects told in full", samples.whole_recall, ""),
        ("whole_precision", "mentions without an error", samples.whole_precision, ""),
        ("hallucinated", "mentions of nothing", samples.hallucinated, ""),
        ("claim_precision", "true claims", samples.claim_precision, ""),
        ("background", "background right", samples.background, ""),
    ]
    for key, name, values, note in rows:
        yield Metric(
            key=f"caption/{key}",
            group="Understanding: captions",
            name=name,
            samples=values,
            cluster_id=objects if note == same else None,
            note=note,
            better="down" if key == "hallucinated" else "up",
            is_headline=key in ("coverage_small", "claim_precision"),
        )


def _length(num_tokens: Column) -> Metric:
    return Metric(
        key="caption/num_tokens",
        group="Understanding: captions",
        name="length in tokens",
        samples=num_tokens,
        kind="count",
        better="neither",
    )


def _answers(samples: AnswerSamples) -> Iterator[Metric]:
    note = f"{samples.num_unparsed} replies unparsed" if samples.num_unparsed else ""
    group = "Understanding: questions"
    return _of_kinds("mcq", group, samples.correct, samples.by_category, note)


def _generation(wording: str, samples: GenerationSamples) -> Iterator[Metric]:
    key, group = f"generation_{wording}", f"Generation: {wording} prompts"
    note = "unweighted mean of the categories"
    return _of_kinds(key, group, samples.correct, samples.by_tag, note)


def _of_kinds(
    key: str, group: str, values: Column, by_kind: Mapping[str, np.ndarray], note: str
) -> Iterator[Metric]:
    """Yield a metric over all rows, then over those of each kind."""
    is_headline = key != "generation_raw"
    yield Metric(
        key=f"{key}/overall",
        group=group,
        name="overall",
        samples=values,
        note=note,
        is_headline=is_headline,
    )
    for name, part in by_kind.items():
        yield Metric(key=f"{key}/{name}", group=group, name=name, samples=part)


def _drawability(samples: DrawabilitySamples) -> Iterator[Metric]:
    of_scenes = {"count": samples.count, "background": samples.background}
    for name, values in (dict(samples.survives) | of_scenes).items():
        is_of_scenes = name in of_scenes
        yield Metric(
            key=f"drawability/{name}",
            group="Drawability of true captions",
            name=name,
            samples=values,
            cluster_id=None if is_of_scenes else samples.scene_index,
            note="of scenes" if is_of_scenes else "of true objects",
        )
