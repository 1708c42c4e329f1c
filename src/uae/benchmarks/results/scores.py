"""Scores of a benchmark as plain data: which sample, of which items, averaged how.

So one function computes the scores of every benchmark from its rows, and another the paired
differences between two runs.
"""

from collections.abc import Mapping, Sequence
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
        _, self._cluster_id = np.unique(np.array(clusters, dtype=np.str_), return_inverse=True)
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

    def cluster_id(self, chosen: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
        """Number what the chosen rows share."""
        return self._cluster_id[chosen]


@dataclass(frozen=True, slots=True)
class ScoreChange:
    """A score of two runs over the items that both measured; the difference is after - before."""

    score: Score
    before: Estimate
    after: Estimate
    difference: Estimate


def estimate_score(score: Score, table: RowTable) -> Estimate:
    """Estimate a score with its 95 % interval."""
    values = table.samples(score.sample)
    return _joined(
        score, [_mean(score, values[part], table.cluster_id(part)) for part in table.parts(score)]
    )


def score_change(score: Score, before: RowTable, after: RowTable) -> ScoreChange:
    """Estimate a score on both sides and its change; row i of both tables is the same item.

    Labels and clusters are those of `after`. An item without the sample on either side is left out
    and counted.
    """
    first, second = before.samples(score.sample), after.samples(score.sample)
    unpaired = np.isnan(first + second)
    first, second = (np.where(unpaired, np.nan, x) for x in (first, second))
    parts = [(first[p], second[p], after.cluster_id(p)) for p in after.parts(score)]
    return ScoreChange(
        score,
        _joined(score, [_mean(score, x, cluster_id) for x, _, cluster_id in parts]),
        _joined(score, [_mean(score, y, cluster_id) for _, y, cluster_id in parts]),
        _joined(score, [_difference(score, *part) for part in parts]),
    )


def _joined(score: Score, means: Sequence[Estimate]) -> Estimate:
    return mean_of(means) if score.mean_over else means[0]


def _mean(
    score: Score, values: Float[np.ndarray, " n"], cluster_id: Int[np.ndarray, " n"]
) -> Estimate:
    plain, kept = estimate(values, is_share=score.is_share), ~np.isnan(values)
    if len(np.unique(cluster_id[kept])) == kept.sum():
        return plain
    return _wider(estimate(values, cluster_id=cluster_id, is_share=score.is_share), plain)


def _difference(
    score: Score,
    before: Float[np.ndarray, " n"],
    after: Float[np.ndarray, " n"],
    cluster_id: Int[np.ndarray, " n"],
) -> Estimate:
    plain = paired_difference(before, after, is_share=score.is_share)
    kept = ~np.isnan(before + after)
    if len(np.unique(cluster_id[kept])) == kept.sum():
        return plain
    clustered = paired_difference(before, after, cluster_id=cluster_id, is_share=score.is_share)
    return _wider(clustered, plain)


def _wider(clustered: Estimate, plain: Estimate) -> Estimate:
    """Never claim more than independent items would show: few clusters resample too narrowly."""
    low, high = np.fmin(clustered.low, plain.low), np.fmax(clustered.high, plain.high)
    return replace(clustered, low=float(low), high=float(high))
