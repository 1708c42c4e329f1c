"""The result of a benchmark run: `result.json`, written whole when every item is done.

It holds scores with n and 95 % intervals, what was excluded and why, and what the numbers depend
on. It names no time: a run that was stopped and taken up again gives the same bytes.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uae.backends.client import Refusal
from uae.benchmarks.results.notes import Reasons, failure_marks, marks_of
from uae.benchmarks.results.scores import RowTable, Score, estimate_score
from uae.core.errors import UsageError
from uae.report.statistics import Estimate
from uae.runs.cut_captions import CutCaptions
from uae.runs.rows import ItemRow

RESULT = "result.json"

_FORMAT = "uae-result-1"


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """A score and its value."""

    score: Score
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """What `result.json` holds.

    Attributes:
        settings: Benchmark, version, model, data and options, as nested plain values.
        num_items: Items in all, excluded ones with them.
        scores: In the benchmark's order.
        excluded: Items left out, by reason, each with what was wrong with it.
        failed: Items that are not left out and lack a part, by part, each with the reason.
        refused: Parameters that an address did not take.
        cut: Captions longer than their generator reads.
        environment: What the run was begun on.
        environment_changes: What was different when it was taken up again, one line each.
    """

    settings: Mapping[str, Any]
    num_items: int
    scores: tuple[ScoreResult, ...]
    excluded: Reasons
    environment: Mapping[str, Any]
    environment_changes: tuple[str, ...] = ()
    failed: Reasons = field(default_factory=dict)
    refused: tuple[Refusal, ...] = ()
    cut: tuple[CutCaptions, ...] = ()

    @property
    def num_excluded(self) -> int:
        """Items left out."""
        return sum(map(len, self.excluded.values()))

    @property
    def marks(self) -> tuple[str, ...]:
        """In what the run is not the whole benchmark or not repeatable, one line each."""
        failures = failure_marks(self.num_items, self.excluded, self.failed, self.refused, self.cut)
        return (*marks_of(self.settings), *failures)

    def by_name(self, name: str) -> Estimate:
        """Return a score's value; a name that is not there is a `KeyError`."""
        return {x.score.name: x.estimate for x in self.scores}[name]


def score_rows(rows: Sequence[ItemRow], scores: Sequence[Score]) -> tuple[ScoreResult, ...]:
    """Compute scores from rows, whose order changes nothing."""
    names = [score.name for score in scores]
    assert len(set(names)) == len(names), "two scores share a name"
    table = RowTable(rows)
    return tuple(ScoreResult(score, estimate_score(score, table)) for score in scores)


def exclusions(rows: Sequence[ItemRow]) -> dict[str, dict[str, str]]:
    """Gather what was excluded, by reason, sorted."""
    return _sorted((row.excluded, row.item, row.excluded_detail) for row in rows if row.excluded)


def failed_parts(rows: Sequence[ItemRow]) -> dict[str, dict[str, str]]:
    """Gather which parts of items failed, by part, sorted."""
    return _sorted((part, row.item, why) for row in rows for part, why in row.failed.items())


def _sorted(failures: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    groups: dict[str, dict[str, str]] = {}
    for group, item, why in sorted(failures):
        groups.setdefault(group, {})[item] = why
    return groups


def result_values(result: BenchResult) -> dict[str, Any]:
    """Return a result as JSON values; null stands for what is undefined."""
    return {
        "format": _FORMAT,
        "settings": dict(result.settings),
        "marks": list(result.marks),
        "num_items": result.num_items,
        "num_excluded": result.num_excluded,
        "scores": [asdict(x.score) | estimate_values(x.estimate) for x in result.scores],
        "excluded": _lists("reason", result.excluded),
        "failed": _lists("part", result.failed),
        "refused": [asdict(x) for x in result.refused],
        "cut_captions": [asdict(x) for x in result.cut],
        "environment": dict(result.environment),
        "environment_changes": list(result.environment_changes),
    }


def _lists(key: str, groups: Reasons) -> list[dict[str, Any]]:
    return [{key: x, "num_items": len(items), "items": items} for x, items in groups.items()]


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
    except UsageError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is damaged ({type(error).__name__}: {error}): run the benchmark again on this "
            "folder; what is done stays done"
        ) from error


def _to_result(values: Mapping[str, Any]) -> BenchResult:
    return BenchResult(
        settings=values["settings"],
        num_items=values["num_items"],
        scores=tuple(map(_to_score, values["scores"])),
        excluded={x["reason"]: x["items"] for x in values["excluded"]},
        failed={x["part"]: x["items"] for x in values.get("failed", ())},
        refused=tuple(Refusal(**x) for x in values.get("refused", ())),
        cut=tuple(CutCaptions(**x) for x in values.get("cut_captions", ())),
        environment=values["environment"],
        environment_changes=tuple(values["environment_changes"]),
    )


def _to_score(row: Mapping[str, Any]) -> ScoreResult:
    of = {key: row[key] for key in ("name", "sample", "where", "mean_over")}
    value, low, high = (
        math.nan if row[key] is None else float(row[key]) for key in ("value", "low", "high")
    )
    return ScoreResult(
        Score(**of, is_share=row.get("is_share", False)),
        Estimate(value, low, high, row["n"], row["num_excluded"]),
    )
