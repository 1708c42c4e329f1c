"""The result of a benchmark run: `result.json`, written whole when every item is done.

It holds scores with n and 95 % intervals, what was excluded and why, and what the numbers depend
on. It names no time: a run that was stopped and taken up again gives the same bytes.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uae.backends.client import Refusal
from uae.benchmarks.results.notes import failed_parts_mark, left_out_mark, marks_of, refusal_marks
from uae.benchmarks.results.scores import RowTable, Score, estimate_score
from uae.core.errors import UsageError
from uae.report.statistics import Estimate
from uae.runs.rows import ItemRow

RESULT = "result.json"

_FORMAT = "uae-result-1"
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """A score and its value."""

    score: Score
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Items left out for one reason; `items` says for each what was wrong with it."""

    reason: str
    items: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FailedPart:
    """A part that could not be measured of some items, and why of each: they count elsewhere."""

    part: str
    items: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """What `result.json` holds.

    Attributes:
        settings: Benchmark, version, model, data and options, as nested plain values.
        num_items: Items in all, excluded ones with them.
        scores: In the benchmark's order.
        excluded: By reason.
        failed: Of items that are not left out, by part.
        refused: Parameters that an address did not take.
        environment: What the run was begun on.
        environment_changes: What was different when it was taken up again, one line each.
    """

    settings: Mapping[str, Any]
    num_items: int
    scores: tuple[ScoreResult, ...]
    excluded: tuple[Exclusion, ...]
    environment: Mapping[str, Any]
    environment_changes: tuple[str, ...] = ()
    failed: tuple[FailedPart, ...] = ()
    refused: tuple[Refusal, ...] = ()

    @property
    def num_excluded(self) -> int:
        """Items left out."""
        return sum(len(exclusion.items) for exclusion in self.excluded)

    @property
    def marks(self) -> tuple[str, ...]:
        """In what the run is not the whole benchmark or not repeatable, one line each."""
        return (
            marks_of(self.settings)
            + left_out_mark({x.reason: len(x.items) for x in self.excluded}, self.num_items)
            + failed_parts_mark({x.part: len(x.items) for x in self.failed})
            + refusal_marks(self.refused)
        )

    def by_name(self, name: str) -> Estimate:
        """Return a score's value; a name that is not there is a `KeyError`."""
        return {x.score.name: x.estimate for x in self.scores}[name]


def score_rows(rows: Sequence[ItemRow], scores: Sequence[Score]) -> tuple[ScoreResult, ...]:
    """Compute scores from rows, whose order changes nothing."""
    names = [score.name for score in scores]
    assert len(set(names)) == len(names), "two scores share a name"
    table = RowTable(rows)
    return tuple(ScoreResult(score, estimate_score(score, table)) for score in scores)


def exclusions(rows: Sequence[ItemRow]) -> tuple[Exclusion, ...]:
    """Gather what was excluded, by reason, sorted."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: row.item):
        if row.excluded:
            found[row.excluded][row.item] = row.excluded_detail
    return tuple(Exclusion(reason, found[reason]) for reason in sorted(found))


def failed_parts(rows: Sequence[ItemRow]) -> tuple[FailedPart, ...]:
    """Gather which parts of items failed, by part, sorted."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: row.item):
        for part, why in row.failed.items():
            found[part][row.item] = why
    return tuple(FailedPart(part, found[part]) for part in sorted(found))


def result_values(result: BenchResult) -> dict[str, Any]:
    """Return a result as JSON values; null stands for what is undefined."""
    return {
        "format": _FORMAT,
        "settings": dict(result.settings),
        "marks": list(result.marks),
        "num_items": result.num_items,
        "num_excluded": result.num_excluded,
        "scores": [asdict(x.score) | estimate_values(x.estimate) for x in result.scores],
        "excluded": [
            {"reason": x.reason, "num_items": len(x.items), "items": dict(x.items)}
            for x in result.excluded
        ],
        "failed": [
            {"part": x.part, "num_items": len(x.items), "items": dict(x.items)}
            for x in result.failed
        ],
        "refused": [asdict(x) for x in result.refused],
        "environment": dict(result.environment),
        "environment_changes": list(result.environment_changes),
    }


def estimate_values(figure: Estimate) -> dict[str, Any]:
    """Return an estimate as JSON values; null stands for NaN."""
    return {key: None if math.isnan(value) else value for key, value in asdict(figure).items()}


def read_result(folder: Path) -> BenchResult:
    """Read the result of a run folder.

    Raises:
        UsageError: There is none: the run is not finished, or the folder is no run; or it is
            damaged.
    """
    path = folder / RESULT
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise UsageError(f"{path}: format {values['format']!r} found, expected {_FORMAT!r}")
        return _to_result(values)
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder} holds no {RESULT}: expected the folder of a benchmark run that is finished"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{path} is damaged ({type(error).__name__}: {error}): run the benchmark again on this "
            "folder; what is done stays done"
        ) from error


def _to_result(values: Mapping[str, Any]) -> BenchResult:
    scores = []
    for row in values["scores"]:
        of = {key: row[key] for key in ("name", "sample", "where", "mean_over")}
        score = Score(**of, is_share=row.get("is_share", False))
        value, low, high = (
            _NAN if row[key] is None else float(row[key]) for key in ("value", "low", "high")
        )
        figure = Estimate(value, low, high, row["n"], row["num_excluded"])
        scores.append(ScoreResult(score, figure))
    return BenchResult(
        settings=values["settings"],
        num_items=values["num_items"],
        scores=tuple(scores),
        excluded=tuple(Exclusion(x["reason"], x["items"]) for x in values["excluded"]),
        failed=tuple(FailedPart(x["part"], x["items"]) for x in values.get("failed", ())),
        refused=tuple(Refusal(**x) for x in values.get("refused", ())),
        environment=values["environment"],
        environment_changes=tuple(values["environment_changes"]),
    )
