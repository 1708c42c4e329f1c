"""GenEval's result as the official scorer writes it, and what is said of it, with intervals.

results.jsonl   rows as djghosh13/geneval@af4902f `evaluation/evaluate_images.py` writes them, for
                its `summary_scores.py` to read
summary.json    scores with intervals, and all that tells what they are scores of

- accuracy of a category: over its images
- overall: the unweighted mean of the six accuracies; undefined where a category has no image
- correct images: over all images, so that larger categories weigh more
- correct prompts: prompts with at least one correct image

The four images of a prompt are no independent trials: intervals of accuracies resample whole
prompts, and that of the overall score combines those of the categories (`statistics.mean_of`).

An image that failed has no row; it is excluded and counted, never wrong.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from uae.benchmarks.geneval.clauses import TAGS
from uae.benchmarks.geneval.decisions import DecisionConfig
from uae.benchmarks.geneval.layout import Gaps
from uae.benchmarks.results.notes import marks_of
from uae.benchmarks.results.scores import RowTable, Score, estimate_score
from uae.core.environment import describe_environment
from uae.report.format import interval_text, value_text
from uae.report.statistics import Estimate, mean_of, proportion
from uae.runs.rows import ItemRow

RESULTS_NAME, SUMMARY_NAME = "results.jsonl", "summary.json"
SCORES = (
    *(Score(name=tag, sample="correct", where={"tag": tag}) for tag in TAGS),
    Score(name="correct images", sample="correct"),
)
"""Accuracy of each category, and over all images."""


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One line of `results.jsonl`; images with the same metadata are of one prompt."""

    filename: str
    tag: str
    prompt: str
    correct: bool
    reason: str
    metadata: str
    details: str
    """JSON: by class, [left, top, right, bottom, score] of each detection that counts."""


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image that could not be scored, and why."""

    filename: str
    tag: str
    metadata: str
    fault: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Scores in [0, 1], each with its interval and the number of images (or prompts) behind it."""

    by_tag: Mapping[str, Estimate]
    overall: Estimate
    correct_images: Estimate
    correct_prompts: Estimate


def score_row(image: ImageResult | FailedImage) -> ItemRow:
    """Return an image as an item of `SCORES`; a failed one has no sample."""
    row = ItemRow(item=image.filename, labels={"tag": image.tag}, cluster=image.metadata)
    if isinstance(image, FailedImage):
        return replace(row, excluded="not scored", excluded_detail=image.fault)
    return replace(row, samples={"correct": float(image.correct)})


def summarize(results: Sequence[ImageResult], failed: Sequence[FailedImage] = ()) -> Summary:
    """Summarize rows."""
    table = RowTable([score_row(image) for image in (*results, *failed)])
    *of_tags, correct_images = (estimate_score(score, table) for score in SCORES)
    prompts = {image.metadata for image in (*results, *failed)}
    scored = {result.metadata for result in results}
    correct = {result.metadata for result in results if result.correct}
    return Summary(
        by_tag=dict(zip(TAGS, of_tags, strict=True)),
        overall=mean_of(of_tags),
        correct_images=correct_images,
        correct_prompts=proportion(
            len(correct), len(scored), num_excluded=len(prompts) - len(scored)
        ),
    )


def summary_values(summary: Summary) -> dict[str, Any]:
    """Return a summary as JSON values; null stands for what is undefined."""
    return {
        "overall": _values(summary.overall),
        "tags": {tag: _values(e) for tag, e in summary.by_tag.items()},
        "correct_images": _values(summary.correct_images),
        "correct_prompts": _values(summary.correct_prompts),
    }


def _values(figure: Estimate) -> dict[str, Any]:
    return {key: None if math.isnan(value) else value for key, value in asdict(figure).items()}


def summary_text(summary: Summary) -> str:
    """Write a summary as a table with intervals and n."""
    rows = [
        *((tag, e, "images") for tag, e in summary.by_tag.items()),
        ("overall (mean of categories)", summary.overall, "images"),
        ("correct images", summary.correct_images, "images"),
        ("correct prompts", summary.correct_prompts, "prompts"),
    ]
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(
        f"{name:{width}}  {value_text(e.value, 'share'):>7}  {interval_text(e, 'share'):18}  "
        f"n = {e.n} {unit}" + (f", {e.num_excluded} left out" if e.num_excluded else "")
        for name, e, unit in rows
    )


@dataclass(frozen=True, slots=True)
class GenEvalResult:
    """A score and all that is needed to tell what it is a score of.

    Attributes:
        variant: The detector's weights: "geneval" or "geneval-hf"; their scores are not compared.
        prompts: Name of the prompt set.
        wording: In whose words the prompts were drawn, and how these were asked for; empty for
            their own.
        part: How many of the published prompts these are, where they are fewer; else empty.
    """

    variant: str
    prompts: str
    prompts_sha256: str
    wording: Mapping[str, str]
    part: Mapping[str, Any]
    config: DecisionConfig
    results: tuple[ImageResult, ...]
    failed: tuple[FailedImage, ...]
    gaps: Gaps
    summary: Summary

    @property
    def is_complete(self) -> bool:
        """Whether every image of the set was there and was scored."""
        return self.gaps.is_empty and not self.failed

    def values(self) -> dict[str, Any]:
        """Return the result but for its rows, as JSON values."""
        return {
            "benchmark": self.variant,
            "prompts": self.prompts,
            "prompts_sha256": self.prompts_sha256,
            **self.wording,
            "is_complete": self.is_complete,
            **self.part,
            **summary_values(self.summary),
            "gaps": self.gaps.by_kind(),
            "failed": [asdict(image) for image in self.failed],
            "config": asdict(self.config),
            "numerics": "float32; 8-bit bilinear resize by torch without antialiasing",
            "environment": describe_environment(),
        }

    def text(self) -> str:
        """Say the result in words, what is amiss first."""
        wording = f", {self.wording['wording']}" if self.wording else ""
        lines = [f"{self.variant}, prompts {self.prompts!r}{wording}"]
        if not self.is_complete:
            lines.append(f"INCOMPLETE, no GenEval score: {len(self.failed)} images failed")
            lines += [self.gaps.summary()] if not self.gaps.is_empty else []
        lines += marks_of({"options": self.part})
        return "\n".join([*lines, summary_text(self.summary)])

    def write(self, out: Path) -> None:
        """Write both files."""
        lines = [json.dumps(asdict(result)) for result in self.results]
        (out / RESULTS_NAME).write_text("".join(f"{line}\n" for line in lines))
        values = json.dumps(self.values(), indent=2, allow_nan=False)
        (out / SUMMARY_NAME).write_text(values + "\n")
