"""Scores from rows, against closed forms and by hand."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from uae.benchmarks.results.result import (
    RESULT,
    BenchResult,
    ScoreResult,
    read_result,
    result_values,
)
from uae.benchmarks.results.scores import RowTable, Score, estimate_score, score_change
from uae.report.statistics import Estimate, mean_of, proportion
from uae.runs.rows import ItemRow

Z = stats.norm.ppf(0.975)
EXACT = 1e-12  # float64 rounding


def rows(values: Mapping[str, Sequence[float | None]], cluster: dict[str, str] | None = None):
    """One row per value, under its label; None is a row that was left out."""
    return [
        ItemRow(
            item=f"{label}{i}",
            labels={"kind": label},
            samples={} if value is None else {"x": value},
            cluster=(cluster or {}).get(f"{label}{i}", ""),
        )
        for label, some in values.items()
        for i, value in enumerate(some)
    ]


def score(
    values: Mapping[str, Sequence[float | None]], mean_over: str = "", **where: str
) -> Estimate:
    table = RowTable(rows(values))
    return estimate_score(Score(name="s", sample="x", where=where, mean_over=mean_over), table)


@given(st.integers(1, 60), st.data())
@settings(deadline=None, max_examples=40)
def test_shares_have_wilsons_interval(n: int, data):
    """Its limits solve |p - share| = z sqrt(p (1 - p) / n), the score test's edge."""
    k = data.draw(st.integers(0, n))
    figure = score({"a": [1.0] * k + [0.0] * (n - k)})
    assert figure.value == pytest.approx(k / n, abs=EXACT)
    a, b, c = n + Z**2, -(2 * k + Z**2), k**2 / n
    root = math.sqrt(max(b**2 - 4 * a * c, 0))
    assert figure.low == pytest.approx((-b - root) / (2 * a), abs=1e-9)
    assert figure.high == pytest.approx((-b + root) / (2 * a), abs=1e-9)
    assert (figure.n, figure.num_excluded) == (n, 0)


def test_what_was_left_out_is_no_zero():
    figure = score({"a": [1.0, None, 0.0, None, 1.0]})
    assert (figure.n, figure.num_excluded) == (3, 2)
    assert figure.value == pytest.approx(2 / 3)


def test_labels_choose_rows():
    values = {"a": [1.0, 1.0, 0.0], "b": [0.0, None]}
    assert score(values, kind="a") == proportion(2, 3)
    assert score(values, kind="b") == proportion(0, 1, num_excluded=1)
    nothing = score(values, kind="c")
    assert math.isnan(nothing.value)
    assert nothing.n == 0


def test_a_mean_of_means_weighs_groups_alike():
    values: Mapping[str, Sequence[float | None]] = {"a": [1.0] * 9 + [0.0], "b": [1.0, 0.0]}
    figure = score(values, mean_over="kind")
    assert figure.value == pytest.approx((0.9 + 0.5) / 2)
    assert figure.n == 12
    a, b = proportion(9, 10), proportion(1, 2)
    low = figure.value - math.sqrt((a.value - a.low) ** 2 + (b.value - b.low) ** 2) / 2
    high = figure.value + math.sqrt((a.high - a.value) ** 2 + (b.high - b.value) ** 2) / 2
    assert (figure.low, figure.high) == pytest.approx((low, high), abs=EXACT)


def test_a_mean_of_one_group_is_the_group():
    figure, alone = score({"a": [1.0, 0.0, 1.0]}, mean_over="kind"), proportion(2, 3)
    assert (figure.low, figure.high) == pytest.approx((alone.low, alone.high), abs=EXACT)


def test_a_group_without_a_figure_leaves_the_mean_undefined():
    figure = score({"a": [1.0, 0.0], "b": [None]}, mean_over="kind")
    assert math.isnan(figure.value)
    assert (figure.n, figure.num_excluded) == (2, 1)
    with pytest.raises(ValueError, match="no estimates"):
        mean_of([])


def test_items_that_share_something_are_no_trials():
    """Twenty copies of each of five results say no more than five."""
    results = [1.0, 0.0, 1.0, 1.0, 0.0]
    copies = [
        ItemRow(item=f"{i}-{k}", samples={"x": value}, cluster=f"c{i}")
        for i, value in enumerate(results)
        for k in range(20)
    ]
    shared = estimate_score(Score(name="s", sample="x"), RowTable(copies))
    assert shared.high - shared.low > 0.6
    alone = proportion(60, 100)
    assert alone.high - alone.low < 0.2


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_clusters_that_all_agree_are_no_certainty(value: float):
    rows = [
        ItemRow(item=f"{i}-{k}", samples={"x": value}, cluster=f"c{i}")
        for i in range(6)
        for k in range(4)
    ]
    figure = estimate_score(Score(name="s", sample="x"), RowTable(rows))
    edge = proportion(int(6 * value), 6)
    assert (figure.low, figure.high, figure.n) == (edge.low, edge.high, 24)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=15)
def test_the_order_of_rows_changes_no_bit(values: list[float], rng: random.Random):
    made = rows({"a": list(values), "b": list(values[1:])}, {"a0": "s", "b0": "s"})
    mixed = rng.sample(made, len(made))
    for mean_over in ("", "kind"):
        s = Score(name="s", sample="x", mean_over=mean_over)
        first, second = (estimate_score(s, RowTable(x)) for x in (made, mixed))
        np.testing.assert_array_equal(
            [first.value, first.low, first.high], [second.value, second.low, second.high]
        )


# -- differences --------------------------------------------------------------------------------


def change(before: Sequence[float | None], after: Sequence[float | None], cluster=None):
    tables = [RowTable(rows({"a": x}, cluster)) for x in (before, after)]
    return score_change(Score(name="s", sample="x"), *tables)


def test_differences_are_paired():
    moved = change([0.1, 0.5, 0.9], [0.2, 0.6, 1.0])
    assert moved.difference.value == pytest.approx(0.1)
    assert moved.difference.high - moved.difference.low < 1e-9
    assert moved.before.value == pytest.approx(0.5)
    assert moved.after.value == pytest.approx(0.6)


def test_what_one_side_lacks_is_left_out_on_both():
    moved = change([1.0, None, 0.0, 1.0], [1.0, 1.0, None, 0.0])
    for figure in (moved.before, moved.after, moved.difference):
        assert (figure.n, figure.num_excluded) == (2, 2)
    assert moved.difference.value == moved.after.value - moved.before.value == -0.5


def test_shared_items_widen_a_difference():
    before, after = [0.0] * 12, [1.0] * 4 + [0.0] * 8
    alone = change(before, after).difference
    shared = change(before, after, {f"a{i}": f"c{i // 4}" for i in range(12)}).difference
    assert shared.value == alone.value
    assert shared.low <= alone.low
    assert shared.high > alone.high


def test_a_mean_of_means_changes_group_by_group():
    tables = [
        RowTable(rows(x))
        for x in ({"a": [0.0] * 4, "b": [1.0]}, {"a": [1.0] * 2 + [0.0] * 2, "b": [0.0]})
    ]
    moved = score_change(Score(name="s", sample="x", mean_over="kind"), *tables)
    assert moved.difference.value == pytest.approx((0.5 - 1.0) / 2)
    assert moved.difference.low < -0.25 < moved.difference.high


def test_a_share_ends_at_0_and_1_and_is_still_the_same_score():
    values = [1.0, 0.9, 1.0, 0.5]
    number, share = (Score(name="s", sample="x", is_share=flag) for flag in (False, True))
    table, before = RowTable(rows({"a": values})), RowTable(rows({"a": [0.0, 0.2, 0.0, 0.0]}))
    assert estimate_score(number, table).high > 1
    assert estimate_score(share, table).high == 1
    assert score_change(number, before, table).difference.high > 1
    assert score_change(share, before, table).difference.high == 1
    assert number == share


def test_a_result_says_which_scores_are_shares(tmp_path: Path):
    table = RowTable(rows({"a": [1.0, 0.5]}))
    scores = [Score(name=x, sample="x", is_share=x == "share") for x in ("number", "share")]
    result = BenchResult(
        settings={},
        num_items=2,
        scores=tuple(ScoreResult(x, estimate_score(x, table)) for x in scores),
        excluded={},
        environment={},
    )
    values = result_values(result)
    (tmp_path / RESULT).write_text(json.dumps(values))
    assert [x.score.is_share for x in read_result(tmp_path).scores] == [False, True]
    for row in values["scores"]:
        del row["is_share"]  # a result of before
    (tmp_path / RESULT).write_text(json.dumps(values))
    assert read_result(tmp_path) == result
