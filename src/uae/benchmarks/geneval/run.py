"""GenEval as a benchmark run: one row per image, taken up again after any stop."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from uae.benchmarks.benchmark import Plan, Work
from uae.benchmarks.geneval.clauses import TAGS
from uae.benchmarks.geneval.decisions import confident_objects, held_relations, judge
from uae.benchmarks.geneval.layout import Sample
from uae.benchmarks.geneval.official import SCORES, Official, summarize
from uae.benchmarks.geneval.prompts import PromptLine
from uae.benchmarks.geneval.task import Task
from uae.benchmarks.results.scores import Score
from uae.core.errors import NonFinite
from uae.data.opening import open_image
from uae.data.untrusted.file import UnreadableImage
from uae.runs.rows import ITEMS, ItemRow, read_rows

OVERALL = Score(name="overall", sample="correct", mean_over="tag")


def plan_of(task: Task, out: Path) -> Plan:
    """Plan the run over a task, whose folder `out` gets the official files too.

    An image that fails is excluded and counted, never wrong.
    """
    gaps, why = task.folder.gaps, "the set of images is incomplete: this is no GenEval score"
    return Plan(
        settings=task.settings(),
        works=[
            Work(item=name, make=partial(_row, task, name, sample), image=sample.path)
            for name, sample in task.samples.items()
        ],
        scores=_scores,
        text=lambda _: write_official(task, out).text(),
        incomplete=lambda result: "" if gaps.is_empty and not result.num_excluded else why,
    )


def write_official(task: Task, out: Path) -> Official:
    """Write the official files beside the rows of a run; return what they hold."""
    rows = tuple(sorted(read_rows(out / ITEMS), key=lambda row: row.item))
    official = Official(task, rows, summarize(rows))
    official.write(out)
    return official


def _scores(rows: Sequence[ItemRow]) -> Sequence[Score]:
    """Return the scores that rows allow: a mean of categories needs all six."""
    tags = {row.labels["tag"] for row in rows}
    return [OVERALL, *SCORES] if tags == set(TAGS) else SCORES


def _row(task: Task, name: str, sample: Sample, _: Mapping[str, ItemRow]) -> ItemRow:
    """Score one image; its row holds the official one, so that a resumed run can write it."""
    line = task.prompts.lines[sample.prompt_id]
    row = ItemRow(item=name, labels={"tag": line.tag}, cluster=line.metadata)
    try:
        if sample.fault:
            raise NonFinite(sample.fault)
        scored = score_image(sample.path, line, task)
    except (UnreadableImage, NonFinite) as error:
        why = {"tag": line.tag, "metadata": line.metadata, "fault": str(error)}
        details = {"filename": str(sample.path), **why}
        return replace(row, excluded="not scored", excluded_detail=str(error), details=details)
    return replace(row, samples={"correct": float(scored["correct"])}, details=scored)


def score_image(path: Path, line: PromptLine, task: Task) -> dict[str, Any]:
    """Return the official row of one image; raises `UnreadableImage` or `NonFinite`.

    Its `details` are JSON: by class, [left, top, right, bottom, score] of what counts.
    """
    image, judges, config = open_image(path), task.judges, task.config
    detections = judges.detector.detect(image, config.threshold_of(line.tag))
    objects = confident_objects(detections, line.tag, config)
    verdict = judge(line, objects, partial(judges.classifier.classify, image), held_relations)
    boxes = {name: [[*o.box, o.score] for o in of_class] for name, of_class in objects.items()}
    return {
        "filename": str(path),
        "tag": line.tag,
        "prompt": line.prompt,
        "correct": verdict.correct,
        "reason": verdict.reason,
        "metadata": line.metadata,
        "details": json.dumps(boxes),
    }
