"""Two runs of one benchmark, item by item: paired differences with intervals, and what moved."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uae.benchmarks.results.result import BenchResult, estimate_values, read_result
from uae.benchmarks.results.scores import RowTable, ScoreChange, score_change
from uae.core.config import config_differences
from uae.core.errors import UsageError
from uae.report.format import Kind, evidence_text, value_text
from uae.runs.claim import plain
from uae.runs.rows import ITEMS, read_rows

_NUM_NAMED = 5


@dataclass(frozen=True, slots=True)
class ItemMove:
    """An item whose sample changed."""

    item: str
    labels: Mapping[str, str]
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class SampleMoves:
    """How the items moved in one sample."""

    num_up: int
    num_down: int
    num_same: int
    most: tuple[ItemMove, ...]
    """Those that changed most, the largest change first; equal ones in the order of their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What changed from one run to another.

    Attributes:
        num_items: Items that both runs have.
        settings: How the runs' settings differ, one line each.
        marks: In what each run is not the whole benchmark, by side, "first" and "second".
        scores: Those that both runs have, in the order of the second.
        moves: By sample.
        kinds: How a sample's figures are written: shares where it is right or wrong, else numbers.
    """

    num_items: int
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    settings: tuple[str, ...]
    marks: Mapping[str, tuple[str, ...]]
    scores: tuple[ScoreChange, ...]
    moves: Mapping[str, SampleMoves]
    kinds: Mapping[str, Kind]


def compare(
    before: Path, after: Path, *, allow_different_items: bool = False, num_moved: int = 10
) -> Comparison:
    """Compare the folders of two finished runs.

    With `allow_different_items` those that both have are compared, though one has others too, or
    though their data differ; `num_moved` items are named for each sample.

    Raises:
        UsageError: A folder holds no finished run, the runs are not of one benchmark and version,
            or their items differ and that is not allowed; the message says which.
    """
    first, second = read_result(before), read_result(after)
    rows = [{row.item: row for row in read_rows(folder / ITEMS)} for folder in (before, after)]
    only_before, only_after = (sorted(set(a) - set(b)) for a, b in (rows, rows[::-1]))
    for key in ("benchmark", "version"):
        ours, theirs = first.settings[key], second.settings[key]
        if ours != theirs:
            raise UsageError(
                f"{before} is of {key} {ours!r}, {after} of {theirs!r}: only runs of one benchmark "
                "and version can be compared"
            )
    if not allow_different_items:
        if only_before or only_after:
            raise UsageError(
                f"the runs have different items: {_named(only_before)} only in {before}, "
                f"{_named(only_after)} only in {after}; allow different items to compare those "
                "that both have"
            )
        _check_data(before, first, after, second)
    common = sorted(set(rows[0]) & set(rows[1]))
    if not common:
        raise UsageError(f"{before} and {after} have no item in common")
    first_table, second_table = (RowTable([side[item] for item in common]) for side in rows)
    known = [x.score for x in first.scores]
    scores = [x.score for x in second.scores if x.score in known]
    samples = list(dict.fromkeys(score.sample for score in scores))
    return Comparison(
        num_items=len(common),
        only_before=tuple(only_before),
        only_after=tuple(only_after),
        settings=tuple(_setting_lines(first.settings, second.settings)),
        marks={"first": first.marks, "second": second.marks},
        scores=tuple(score_change(score, first_table, second_table) for score in scores),
        moves={sample: _moves(sample, first_table, second_table, num_moved) for sample in samples},
        kinds={sample: _kind(sample, first_table, second_table) for sample in samples},
    )


def _check_data(before: Path, first: BenchResult, after: Path, second: BenchResult) -> None:
    differences = config_differences(first.settings["data"], second.settings["data"], "data")
    if differences:
        raise UsageError(
            f"{before} and {after} ran on different data: {'; '.join(differences)}; allow "
            "different items to compare all the same"
        )


def _setting_lines(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Say how settings differ; of a model's files only how many."""
    lines = config_differences(dict(first), dict(second))
    kept = [line for line in lines if not line.startswith("model.files.")]
    num_files = len(lines) - len(kept)
    return [*kept, f"{num_files} of the model's files"] if num_files else kept


def _named(items: Sequence[str]) -> str:
    if not items:
        return "0"
    more = ", ..." if len(items) > _NUM_NAMED else ""
    return f"{len(items)} ({', '.join(items[:_NUM_NAMED])}{more})"


def _kind(sample: str, before: RowTable, after: RowTable) -> Kind:
    values = np.concatenate([before.samples(sample), after.samples(sample)])
    return "share" if np.isin(values[~np.isnan(values)], (0.0, 1.0)).all() else "number"


def _moves(sample: str, before: RowTable, after: RowTable, num_moved: int) -> SampleMoves:
    first, second = before.samples(sample), after.samples(sample)
    change = second - first
    order = sorted(np.flatnonzero(np.nan_to_num(change)), key=lambda i: (-abs(change[i]), i))
    return SampleMoves(
        num_up=int((change > 0).sum()),
        num_down=int((change < 0).sum()),
        num_same=int((change == 0).sum()),
        most=tuple(
            ItemMove(row.item, row.labels, float(first[i]), float(second[i]))
            for i, row in ((i, after.rows[i]) for i in order[:num_moved])
        ),
    )


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values; null stands for what is undefined."""
    values = asdict(comparison)
    del values["kinds"]
    values["scores"] = [
        {"name": x.score.name}
        | {side: estimate_values(getattr(x, side)) for side in ("before", "after", "difference")}
        for x in comparison.scores
    ]
    return plain(values)


def comparison_text(comparison: Comparison) -> str:
    """Write a comparison in lines: each score's difference, then what moved most."""
    lines = [f"{comparison.num_items} items that both runs have"]
    lines += [f"{side}: {mark}" for side, marks in comparison.marks.items() for mark in marks]
    for side, items in (("first", comparison.only_before), ("second", comparison.only_after)):
        if items:
            lines.append(f"only in the {side}: {_named(items)}")
    lines += [f"differs: {line}" for line in comparison.settings]
    width = max((len(x.score.name) for x in comparison.scores), default=0)
    for x in comparison.scores:
        kind = comparison.kinds[x.score.sample]
        sides = f"{value_text(x.before.value, kind)} -> {value_text(x.after.value, kind)}"
        real = "" if x.difference.excludes_zero else "; may be chance"
        lines.append(
            f"{x.score.name:{width}}  {sides}  ({evidence_text(x.difference, kind)}{real})"
        )
    for sample, moves in comparison.moves.items():
        counts = f"{moves.num_up} up, {moves.num_down} down, {moves.num_same} unchanged"
        lines.append(f"{sample}: {counts}")
        lines += [f"  item {m.item}: {m.before:g} -> {m.after:g}" for m in moves.most]
    return "\n".join(lines)
