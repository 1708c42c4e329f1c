import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from uae.report.statistics import Estimate, estimate, paired_difference, proportion

NAN = float("nan")


def test_wilson_closed_form() -> None:
    # 9 of 10: (0.9 + z^2/20 -+ z sqrt(0.09/10 + z^2/400)) / (1 + z^2/10) with z = 1.959964
    z = 1.959963984540054
    centre = (0.9 + z**2 / 20) / (1 + z**2 / 10)
    half = z * math.sqrt(0.009 + z**2 / 400) / (1 + z**2 / 10)
    got = proportion(9, 10)
    assert (got.value, got.n) == (0.9, 10)
    assert got.low == pytest.approx(centre - half, rel=1e-12)
    assert got.high == pytest.approx(centre + half, rel=1e-12)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts: tuple[int, int]) -> None:
    k, n = counts
    reference = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    got = proportion(k, n)
    assert got.low == pytest.approx(reference.low, abs=1e-12)
    assert got.high == pytest.approx(reference.high, abs=1e-12)
    assert got.low <= got.value <= got.high


def test_mean_interval_is_students() -> None:
    samples = np.array([0.2, 0.5, 0.1, 0.9])
    low, high = stats.t.interval(0.95, 3, loc=samples.mean(), scale=stats.sem(samples))
    got = estimate(samples)
    assert (got.value, got.low, got.high) == pytest.approx((0.425, low, high), rel=1e-12)


def test_binary_samples_are_a_proportion() -> None:
    assert estimate(np.array([1.0, 0.0, 1.0, 1.0])) == proportion(3, 4)
    assert estimate(np.array([True, False, True, True])) == proportion(3, 4)


def test_nan_is_excluded_and_counted_never_zero() -> None:
    got = estimate([0.5, NAN, 0.7, NAN])
    assert got.value == pytest.approx(0.6)
    assert (got.n, got.num_excluded) == (2, 2)
    pair = paired_difference([0.1, NAN, 0.3, 0.2], [0.2, 0.5, NAN, 0.4])
    assert pair.value == pytest.approx(0.15)
    assert (pair.n, pair.num_excluded) == (2, 2)


def test_too_few_samples_give_no_interval() -> None:
    nothing = estimate([NAN, NAN])
    assert math.isnan(nothing.value)
    assert (nothing.n, nothing.num_excluded) == (0, 2)
    single = estimate([0.4])
    assert single.value == 0.4
    assert math.isnan(single.low)
    assert not single.excludes_zero
    one_cluster = estimate(np.array([0.4, 0.6]), cluster_id=np.array([7, 7]))
    assert math.isnan(one_cluster.low)


def test_paired_difference_of_means_closed_form() -> None:
    before, after = np.array([0.1, 0.4, 0.7]), np.array([0.3, 0.5, 1.0])
    reference = stats.ttest_rel(after, before).confidence_interval(0.95)
    got = paired_difference(before, after)
    assert (got.value, got.low, got.high) == pytest.approx((0.2, reference.low, reference.high))


def test_paired_proportions_closed_form() -> None:
    # 10 pairs: 4 gained, 1 lost. Adjusted shares 5/12 and 2/12; centre 3/12.
    before = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 0.0])
    after = np.array([1, 1, 1, 1, 0, 1, 1, 1, 0, 0.0])
    half = 1.959963984540054 * math.sqrt((5 / 12 + 2 / 12 - (3 / 12) ** 2) / 12)
    got = paired_difference(before, after)
    assert got.value == pytest.approx(0.3)
    assert (got.low, got.high) == pytest.approx((0.25 - half, 0.25 + half), rel=1e-12)


def test_pairs_that_never_disagree_keep_a_width() -> None:
    same = np.array([1.0, 0.0, 1.0, 1.0])
    got = paired_difference(same, same)
    assert got.value == 0
    assert got.low < 0 < got.high


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="before has 2 samples and after 3"):
        paired_difference([0.1, 0.2], [0.1, 0.2, 0.3])


def test_outside_its_interval_means_the_interval_excludes_zero() -> None:
    assert Estimate(0.2, 0.1, 0.3, 9).rises
    assert Estimate(-0.2, -0.3, -0.1, 9).falls
    assert not Estimate(0.1, -0.1, 0.3, 9).excludes_zero
    assert not Estimate(0.0, 0.0, 0.0, 9).excludes_zero


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30), st.floats(-5, 5))
def test_a_shared_shift_leaves_the_difference(values: list[float], shift: float) -> None:
    before = np.array(values)
    after = before[::-1] * 0.5
    # rows of 0 and 1 alone are answers, wrong or right, whose interval is that of proportions
    sides = (before, after), (before + shift, after + shift)
    assume(not any(np.isin(np.concatenate(side), (0, 1)).all() for side in sides))
    plain, shifted = (
        paired_difference(before, after),
        paired_difference(before + shift, after + shift),
    )
    assert shifted.value == pytest.approx(plain.value, abs=1e-9)
    assert shifted.low == pytest.approx(plain.low, abs=1e-6)


@given(st.permutations(range(12)))
def test_order_does_not_matter(order: list[int]) -> None:
    before, after = np.linspace(0.1, 0.8, 12), np.linspace(0.2, 0.7, 12) ** 2
    plain, shuffled = (
        paired_difference(before, after),
        paired_difference(before[order], after[order]),
    )
    assert (shuffled.value, shuffled.low) == pytest.approx((plain.value, plain.low))


def _coverage(intervals: list[Estimate], truth: float) -> float:
    return float(np.mean([e.low <= truth <= e.high for e in intervals]))


# 2,000 trials: the coverage's own standard error is 0.005, so a correct interval passes at 4 sigma.
def test_coverage_of_proportions() -> None:
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.02, 0.98, 2000)  # at one share, coverage jumps with the discrete counts
    intervals = [proportion(int(k), 60) for k in rng.binomial(60, shares)]
    covered = [e.low <= p <= e.high for e, p in zip(intervals, shares, strict=True)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_coverage_of_skewed_means() -> None:
    rng = np.random.default_rng(1)
    rows = rng.beta(8, 2, (2000, 64))
    assert _coverage([estimate(row) for row in rows], 0.8) == pytest.approx(0.95, abs=0.02)


def test_coverage_of_paired_proportions() -> None:
    rng = np.random.default_rng(2)
    before = (rng.random((2000, 80)) < 0.5).astype(float)
    flips = rng.random((2000, 80)) < np.where(before == 1, 0.1, 0.2)
    after = np.where(flips, 1 - before, before)
    got = [paired_difference(b, a) for b, a in zip(before, after, strict=True)]
    assert _coverage(got, 0.5 * 0.2 - 0.5 * 0.1) == pytest.approx(0.95, abs=0.02)


def test_clustered_coverage_where_rows_share_an_image() -> None:
    rng = np.random.default_rng(3)
    cluster_id = np.repeat(np.arange(40), 6)
    clustered, naive = [], []
    for _ in range(200):
        samples = np.repeat(rng.normal(0, 1, 40), 6) + rng.normal(0, 0.3, 240)
        clustered.append(estimate(samples, cluster_id=cluster_id))
        naive.append(estimate(samples))
    # A percentile bootstrap of 40 clusters covers a little less than 95 %; 200 trials: +-0.02.
    assert 0.88 <= _coverage(clustered, 0.0) <= 0.99
    assert _coverage(naive, 0.0) < 0.7


def test_bootstrap_is_seeded_and_independent_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, cluster_id = np.linspace(0, 1, 30) ** 2, np.repeat(np.arange(10), 3)
    first = estimate(samples, cluster_id=cluster_id)
    assert estimate(samples, cluster_id=cluster_id) == first
    assert estimate(samples, cluster_id=cluster_id, seed=1) != first
    monkeypatch.setattr("uae.report.statistics._WEIGHTS_PER_CHUNK", 100)
    assert estimate(samples, cluster_id=cluster_id) == first


def test_singleton_clusters_agree_with_students() -> None:
    rng = np.random.default_rng(5)
    samples = rng.normal(0.5, 0.1, 400)
    plain, clustered = estimate(samples), estimate(samples, cluster_id=np.arange(400))
    assert clustered.value == plain.value
    # Both estimate the same standard error; 4,000 resamples move a quantile by about 3 % of it.
    assert clustered.high - clustered.low == pytest.approx(plain.high - plain.low, rel=0.06)


def test_paired_difference_by_cluster_is_the_mean_over_rows() -> None:
    before, after = np.array([0.0, 0.2, 0.4, 0.1]), np.array([0.5, 0.2, 0.5, 0.2])
    got = paired_difference(before, after, cluster_id=np.array([0, 0, 0, 1]))
    assert got.value == pytest.approx(0.175)
    # Two clusters: the resampled means are 0.1, 0.175 and 0.2 only.
    assert (got.low, got.high) == pytest.approx((0.1, 0.2))


def test_a_clustered_share_that_all_agree_on_has_wilsons_interval_of_the_clusters() -> None:
    cluster_id = np.repeat(np.arange(25), 3)
    got = estimate(np.ones(75), cluster_id=cluster_id)
    assert (got.value, got.n, got.high) == (1.0, 75, 1.0)
    assert got.low == pytest.approx(25 / (25 + stats.norm.ppf(0.975) ** 2), rel=1e-12)  # .867
    halves = estimate(np.tile([0.0, 1.0], 26), cluster_id=np.repeat(np.arange(26), 2))
    reference = stats.binomtest(13, 26).proportion_ci(0.95, method="wilson")
    assert (halves.low, halves.high) == pytest.approx((reference.low, reference.high), rel=1e-12)


def test_a_share_whose_samples_agree_keeps_a_width() -> None:
    # Wilson's with p = .3 and n = 10, as of 3 in 10
    got, reference = estimate(np.full(10, 0.3), is_share=True), proportion(3, 10)
    assert (got.value, got.n) == (pytest.approx(0.3), 10)
    assert (got.low, got.high) == pytest.approx((reference.low, reference.high), rel=1e-12)
    number = estimate(np.full(10, 0.3))  # a similarity, say, of which nothing more is known
    assert number.high - number.low < 1e-12


def test_intervals_of_shares_end_at_0_and_1_and_others_do_not() -> None:
    samples = np.array([1.0, 1.0, 0.5, 1.0, 0.9])
    share, number = estimate(samples, is_share=True), estimate(samples)
    assert number.high > 1
    assert (share.low, share.high) == (number.low, 1.0)
    before, after = np.zeros(3), np.array([1.0, 0.4, 1.0])
    change = paired_difference(before, after, is_share=True)
    plain = paired_difference(before, after)
    assert plain.high > 1
    assert (change.low, change.high) == (plain.low, 1.0)


def test_a_clustered_change_without_a_difference_has_the_interval_of_the_clusters() -> None:
    same, cluster_id = np.tile([1.0, 0.0, 1.0], 20), np.repeat(np.arange(20), 3)
    got = paired_difference(same, same, cluster_id=cluster_id)
    alone = paired_difference(np.ones(20), np.ones(20))
    assert (got.value, got.n) == (0.0, 60)
    assert (got.low, got.high) == pytest.approx((alone.low, alone.high))
    assert got.low < 0 < got.high


def test_no_interval_stays_none_for_shares() -> None:
    assert math.isnan(estimate([0.4], is_share=True).low)
    assert math.isnan(estimate([NAN], is_share=True).high)
    assert math.isnan(estimate(np.ones(2), cluster_id=np.zeros(2)).low)
    assert math.isnan(paired_difference([0.2], [0.4], is_share=True).low)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.booleans())
def test_shares_lie_in_their_intervals_and_these_in_0_to_1(
    values: list[float], is_clustered: bool
) -> None:
    samples, cluster_id = np.array(values), np.arange(len(values)) if is_clustered else None
    share = estimate(samples, cluster_id=cluster_id, is_share=True)
    change = paired_difference(samples, samples[::-1], cluster_id=cluster_id, is_share=True)
    assert 0 <= share.low <= share.value + 1e-12
    assert share.value - 1e-12 <= share.high <= 1
    assert share.low < share.high
    assert -1 <= change.low <= change.high <= 1
