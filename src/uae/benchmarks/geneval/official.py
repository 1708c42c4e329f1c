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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uae.benchmarks.geneval.clauses import TAGS
from uae.benchmarks.geneval.task import Task
from uae.benchmarks.image_origin import wording_of
from uae.benchmarks.results.notes import marks_of
from uae.benchmarks.results.scores import RowTable, Score, estimate_score
from uae.core.durable import storage_faults
from uae.core.environment import describe_environment
from uae.core.ranks import once
from uae.report.format import interval_text, value_text
from uae.report.statistics import Estimate, mean_of, proportion
from uae.runs.rows import ItemRow

SCORES = (
    *(Score(name=tag, sample="correct", where={"tag": tag}) for tag in TAGS),
    Score(name="correct images", sample="correct"),
)
"""Accuracy of each category, and over all images."""
_RESULT = ("filename", "tag", "prompt", "correct", "reason", "metadata", "details")
_FAILED = ("filename", "tag", "metadata", "fault")


@dataclass(frozen=True, slots=True)
class Summary:
    """Scores in [0, 1], each with its interval and the number of images (or prompts) behind it."""

    by_tag: Mapping[str, Estimate]
    overall: Estimate
    correct_images: Estimate
    correct_prompts: Estimate

    def values(self) -> dict[str, Any]:
        """Return them as JSON values; null stands for what is undefined."""
        return {
            "overall": _values(self.overall),
            "tags": {tag: _values(e) for tag, e in self.by_tag.items()},
            "correct_images": _values(self.correct_images),
            "correct_prompts": _values(self.correct_prompts),
        }

    def text(self) -> str:
        """Write them as a table with intervals and n."""
        rows = [
            *((tag, e, "images") for tag, e in self.by_tag.items()),
            ("overall (mean of categories)", self.overall, "images"),
            ("correct images", self.correct_images, "images"),
            ("correct prompts", self.correct_prompts, "prompts"),
        ]
        width = max(len(name) for name, _, _ in rows)
        return "\n".join(
            f"{name:{width}}  {value_text(e.value, 'share'):>7}  {interval_text(e, 'share'):18}  "
            f"n = {e.n} {unit}" + (f", {e.num_excluded} left out" if e.num_excluded else "")
            for name, e, unit in rows
        )


def _values(figure: Estimate) -> dict[str, Any]:
    return {key: None if math.isnan(value) else value for key, value in asdict(figure).items()}


def summarize(rows: Sequence[ItemRow]) -> Summary:
    """Summarize the rows of a run, which have their prompt as cluster."""
    table = RowTable(rows)
    *of_tags, correct_images = (estimate_score(score, table) for score in SCORES)
    prompts = {row.cluster for row in rows}
    scored = {row.cluster for row in rows if row.samples}
    correct = {row.cluster for row in rows if row.samples.get("correct")}
    return Summary(
        by_tag=dict(zip(TAGS, of_tags, strict=True)),
        overall=mean_of(of_tags),
        correct_images=correct_images,
        correct_prompts=proportion(
            len(correct), len(scored), num_excluded=len(prompts) - len(scored)
        ),
    )


@dataclass(frozen=True, slots=True)
class Official:
    """A task's rows in the order of the images' names, as the official files hold them."""

    task: Task
    rows: tuple[ItemRow, ...]
    summary: Summary

    @property
    def results(self) -> list[dict[str, Any]]:
        return [{key: x.details[key] for key in _RESULT} for x in self.rows if not x.excluded]

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [{key: x.details[key] for key in _FAILED} for x in self.rows if x.excluded]

    @property
    def is_complete(self) -> bool:
        """Whether every image of the set was there and was scored."""
        return self.task.folder.gaps.is_empty and not self.failed

    def values(self) -> dict[str, Any]:
        """Return the content of `summary.json`."""
        task = self.task
        return {
            "benchmark": task.judges.detector.variant,
            "prompts": task.prompts.name,
            "prompts_sha256": task.prompts.sha256,
            **wording_of(task.folder.root),
            "is_complete": self.is_complete,
            **task.part,
            **self.summary.values(),
            "gaps": task.folder.gaps.by_kind(),
            "failed": self.failed,
            "config": asdict(task.config),
            "numerics": "float32; 8-bit bilinear resize by torch without antialiasing",
            "environment": describe_environment(),
        }

    def text(self) -> str:
        """Say the result in words, what is amiss first."""
        task, wording = self.task, wording_of(self.task.folder.root).get("wording")
        head = f"{task.judges.detector.variant}, prompts {task.prompts.name!r}"
        lines = [f"{head}, {wording}" if wording else head]
        if not self.is_complete:
            lines.append(f"INCOMPLETE, no GenEval score: {len(self.failed)} images failed")
            lines += [] if task.folder.gaps.is_empty else [task.folder.gaps.summary()]
        return "\n".join([*lines, *marks_of({"options": task.part}), self.summary.text()])

    def write(self, out: Path) -> None:
        """Write both files; raises `EnvironmentFault` where they cannot be written."""
        lines = "".join(f"{json.dumps(row)}\n" for row in self.results)
        values = json.dumps(self.values(), indent=2, allow_nan=False) + "\n"

        def write() -> None:
            (out / "results.jsonl").write_text(lines)
            (out / "summary.json").write_text(values)

        with storage_faults("cannot write", out):
            once(write)
