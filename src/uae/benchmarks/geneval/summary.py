"""GenEval's result rows and what is said of them, with intervals.

Rows have the official format (djghosh13/geneval@af4902f `evaluation/evaluate_images.py`): its
`summary_scores.py` reads ours. Scores:

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
from uae.benchmarks.results.scores import RowTable, Score, estimate_score
from uae.report.format import interval_text, value_text
from uae.report.statistics import Estimate, mean_of, proportion
from uae.runs.rows import ItemRow

SCORES = (
    *(Score(name=tag, sample="correct", where={"tag": tag}) for tag in TAGS),
    Score(name="correct images", sample="correct"),
)
"""Accuracy of each category, and over all images."""


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One line of `results.jsonl`."""

    filename: str
    tag: str
    prompt: str
    correct: bool
    reason: str
    metadata: str
    """The prompt's line as JSON; images with the same are of one prompt."""
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
    """Summarize rows; prompts are told apart by their metadata."""
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


def write_results(path: Path, results: Sequence[ImageResult]) -> None:
    """Write rows in the official format."""
    path.write_text("".join(f"{json.dumps(asdict(result))}\n" for result in results))


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
