"""Scores of a benchmark as plain data: which sample, of which items, averaged how.

So one function computes the scores of every benchmark from its rows, and another the paired
differences between two runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from uae.report.statistics import Estimate, estimate, mean_of, paired_difference
from uae.runs.rows import ItemRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The mean of a sample over the items with certain labels.

    overall = Score(name="overall", sample="answer")
    meta = Score(name="OCR", sample="answer", where={"meta_task": "ocr"}, mean_over="subtask")

    Attributes:
        name: Unique within the benchmark.
        sample: Which of the items' samples.
        where: Labels that an item must have.
        mean_over: A kind of label: the score is the unweighted mean of the means within each of
            its values. Empty for the mean over items.
        is_share: Samples lie in [0, 1], and so must the score's interval; those of 0 and 1 alone
            are known without it. Says how to write an interval, not which score it is.
    """

    name: str
    sample: str
    where: Mapping[str, str] = field(default_factory=dict)
    mean_over: str = ""
    is_share: bool = field(default=False, compare=False)


class RowTable:
    """Rows in a fixed order, by column: their order in a file changes no score."""

    def __init__(self, rows: Sequence[ItemRow]) -> None:
        self.rows = sorted(rows, key=lambda row: row.item)
        clusters = [row.cluster or f"\0{row.item}" for row in self.rows]
        _, self.cluster_id = np.unique(np.array(clusters, dtype=np.str_), return_inverse=True)
        self._samples: dict[str, Float[np.ndarray, " n"]] = {}
        self._labels: dict[str, np.ndarray] = {}

    def samples(self, name: str) -> Float[np.ndarray, " n"]:
        """Return a sample of each row, NaN where it has none."""
        if name not in self._samples:
            values = [row.samples.get(name, np.nan) for row in self.rows]
            self._samples[name] = np.array(values, dtype=np.float64)
        return self._samples[name]

    def labels(self, kind: str) -> np.ndarray:
        """Return a label of each row, empty where it has none."""
        if kind not in self._labels:
            values = [row.labels.get(kind, "") for row in self.rows]
            self._labels[kind] = np.array(values, dtype=np.str_)
        return self._labels[kind]

    def parts(self, score: Score) -> list[Bool[np.ndarray, " n"]]:
        """Return which rows each of a score's means is over."""
        chosen = np.ones(len(self.rows), dtype=bool)
        for kind, value in score.where.items():
            chosen &= self.labels(kind) == value
        if not score.mean_over or not chosen.any():
            return [chosen]
        labels = self.labels(score.mean_over)
        return [chosen & (labels == value) for value in np.unique(labels[chosen])]


@dataclass(frozen=True, slots=True)
class ScoreChange:
    """A score of two runs over the items that both measured; the difference is after - before."""

    score: Score
    before: Estimate
    after: Estimate
    difference: Estimate


def estimate_score(score: Score, table: RowTable) -> Estimate:
    """Estimate a score with its 95 % interval."""
    return _over_parts(score, table, estimate, table.samples(score.sample))


def score_change(score: Score, before: RowTable, after: RowTable) -> ScoreChange:
    """Estimate a score on both sides and its change; row i of both tables is the same item.

    Labels and clusters are those of `after`. An item without the sample on either side is left out
    and counted.
    """
    first, second = before.samples(score.sample), after.samples(score.sample)
    unpaired = np.isnan(first + second)
    first, second = (np.where(unpaired, np.nan, x) for x in (first, second))
    return ScoreChange(
        score,
        _over_parts(score, after, estimate, first),
        _over_parts(score, after, estimate, second),
        _over_parts(score, after, paired_difference, first, second),
    )


def _over_parts(
    score: Score,
    table: RowTable,
    measure: Callable[..., Estimate],
    *columns: Float[np.ndarray, " n"],
) -> Estimate:
    """Measure columns of samples over each part of a score, and join the parts."""
    measures = [
        _measured(score, measure, table.cluster_id[part], *(column[part] for column in columns))
        for part in table.parts(score)
    ]
    return mean_of(measures) if score.mean_over else measures[0]


def _measured(
    score: Score,
    measure: Callable[..., Estimate],
    cluster_id: Int[np.ndarray, " m"],
    *columns: Float[np.ndarray, " m"],
) -> Estimate:
    """Measure samples, by their clusters where some share one."""
    plain = measure(*columns, is_share=score.is_share)
    kept = cluster_id[~np.isnan(sum(columns))]
    if len(np.unique(kept)) == len(kept):
        return plain
    clustered = measure(*columns, cluster_id=cluster_id, is_share=score.is_share)
    # few clusters resample too narrowly: never claim more than independent items would show
    low, high = np.fmin(clustered.low, plain.low), np.fmax(clustered.high, plain.high)
    return replace(clustered, low=float(low), high=float(high))
