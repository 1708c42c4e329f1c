"""95 % confidence intervals for everything that a report prints.

- a proportion: Wilson's score interval (Wilson 1927)
- a mean: Student's t interval
- a paired difference (same images, same seeds): t interval of the differences; where both sides are
  0 or 1, Bonett and Price's adjusted Wald interval, which keeps its width when no pair disagrees
- rows that share an image: percentile bootstrap over images (Efron), seeded
- an unweighted mean of independent figures: MOVER (Zou and Donner 2008), from their intervals

Rows of 0 and 1 are shares, and so are others that a caller calls so (shares of a scene's objects,
say). The interval of a share ends at 0 and 1, that of its change at -1 and +1. Where all samples of
a share agree, or all images, their spread of 0 is no certainty: Wilson's interval of as many trials
as samples, or images, stands in for it, and Bonett and Price's for a change of rows of 0 and 1.

A NaN sample is one that failed or has nothing to measure: it is left out and counted, never 0.
A difference is called real when it lies "outside its interval": when the interval excludes 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

CONFIDENCE = 0.95
NUM_RESAMPLES = 4000

_Z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
_NAN = float("nan")
_ROUNDING = 1e-9
_WEIGHTS_PER_CHUNK = 4_000_000  # resampling weights held at once: 32 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval. `low` and `high` are NaN where too few samples give none."""

    value: float
    low: float
    high: float
    n: int
    """Samples behind the figure."""
    num_excluded: int = 0
    """Samples left out: they failed, or there was nothing to measure."""

    @property
    def excludes_zero(self) -> bool:
        return self.rises or self.falls

    @property
    def rises(self) -> bool:
        return self.low > 0

    @property
    def falls(self) -> bool:
        return self.high < 0


def estimate(
    samples: Shaped[np.ndarray, " n"] | Sequence[float | int],
    *,
    cluster_id: Shaped[np.ndarray, " n"] | None = None,
    is_share: bool = False,
    seed: int = 0,
) -> Estimate:
    """Estimate the mean of samples; samples that are all 0 or 1 are a proportion.

    Args:
        samples: NaN where a sample failed or has nothing to measure.
        cluster_id: The image of each row, where several rows share one.
        is_share: Samples lie in [0, 1], and so must their mean's interval.
        seed: Seed of the bootstrap, used with `cluster_id` only.
    """
    values = np.asarray(samples, dtype=np.float64)
    kept = ~np.isnan(values)
    num_excluded = int((~kept).sum())
    values, is_binary = values[kept], bool(kept.any()) and _is_binary(values[kept])
    if cluster_id is None and is_binary:
        return proportion(int(values.sum()), values.size, num_excluded=num_excluded)
    clusters = None if cluster_id is None else cluster_id[kept]
    mean, num_trials = _mean(values, clusters, num_excluded, seed)
    if not (is_share or is_binary):
        return mean
    return _within(_wilson(mean, num_trials) if _is_point(mean) else mean, 0.0, 1.0)


def proportion(num_successes: int, n: int, *, num_excluded: int = 0) -> Estimate:
    """Estimate a proportion with Wilson's score interval; `ValueError` outside 0..n."""
    if not 0 <= num_successes <= n:
        raise ValueError(f"num_successes is {num_successes}: expected 0 to n = {n}")
    if n == 0:
        return Estimate(_NAN, _NAN, _NAN, 0, num_excluded)
    share = num_successes / n
    return _wilson(Estimate(share, share, share, n, num_excluded), n)


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Estimate the unweighted mean of independent estimates, one or more.

    Its limits are the mean -+ sqrt(sum of squared distances to the limits) / number of estimates.
    """
    if not estimates:
        raise ValueError("the mean of no estimates is asked for: expected one or more")
    values, lows, highs = np.array([(e.value, e.low, e.high) for e in estimates]).T
    mean = float(values.mean())
    return Estimate(
        mean,
        mean - math.sqrt(((values - lows) ** 2).sum()) / len(estimates),
        mean + math.sqrt(((highs - values) ** 2).sum()) / len(estimates),
        sum(e.n for e in estimates),
        sum(e.num_excluded for e in estimates),
    )


def paired_difference(
    before: Shaped[np.ndarray, " n"] | Sequence[float | int],
    after: Shaped[np.ndarray, " n"] | Sequence[float | int],
    *,
    cluster_id: Shaped[np.ndarray, " n"] | None = None,
    is_share: bool = False,
    seed: int = 0,
) -> Estimate:
    """Estimate mean(after - before) over the same scenes and seeds, row by row.

    A pair with NaN on either side is left out and counted. Other arguments are those of `estimate`.

    Raises:
        ValueError: The two sides differ in length, so they cannot be pairs.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(
            f"before has {first.size} samples and after {second.size}: "
            "a paired difference needs the same scenes on both sides"
        )
    differences = second - first
    kept = ~np.isnan(differences)
    num_excluded = int((~kept).sum())
    is_binary = bool(kept.any()) and _is_binary(first[kept]) and _is_binary(second[kept])
    differences = differences[kept]
    if cluster_id is None and is_binary:
        return _paired_proportions(differences, differences.size, num_excluded)
    clusters = None if cluster_id is None else cluster_id[kept]
    change, num_trials = _mean(differences, clusters, num_excluded, seed)
    if is_binary and _is_point(change):
        return _paired_proportions(differences, num_trials, num_excluded)
    return _within(change, -1.0, 1.0) if is_share or is_binary else change


def weighted(
    values: Mapping[str, Sequence[float]], weights: Mapping[str, float]
) -> Float[np.ndarray, " n"]:
    """Return the weighted mean of columns by name, row by row; NaN without any weight."""
    total = sum(weights.values())
    num_rows = len(next(iter(values.values())))
    if not total:
        return np.full(num_rows, math.nan)
    return sum(
        (weight / total * np.array(values[name]) for name, weight in weights.items()),
        start=np.zeros(num_rows),
    )


def _is_binary(values: Float[np.ndarray, " n"]) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _is_point(estimate: Estimate) -> bool:
    """Tell whether there is an interval and it has no width but that of rounding."""
    return estimate.high - estimate.low < _ROUNDING


def _within(estimate: Estimate, least: float, most: float) -> Estimate:
    if math.isnan(estimate.low):
        return estimate
    return replace(estimate, low=max(least, estimate.low), high=min(most, estimate.high))


def _wilson(estimate: Estimate, num_trials: int) -> Estimate:
    """Give a share the interval of `num_trials` independent trials."""
    share, n = min(max(estimate.value, 0.0), 1.0), num_trials
    shrink = 1 / (1 + _Z**2 / n)
    centre = shrink * (share + _Z**2 / (2 * n))
    half = shrink * _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    low, high = 0.0 if share == 0 else centre - half, 1.0 if share == 1 else centre + half
    return replace(estimate, low=low, high=high)


def _mean(
    values: Float[np.ndarray, " n"],
    cluster_id: Shaped[np.ndarray, " n"] | None,
    num_excluded: int,
    seed: int,
) -> tuple[Estimate, int]:
    """Estimate a mean over rows or clusters, and count these."""
    num_trials = values.size if cluster_id is None else np.unique(cluster_id).size
    mean = float(values.mean()) if values.size else _NAN
    if num_trials < 2:
        low, high = _NAN, _NAN
    elif cluster_id is None:
        low, high = _t_limits(values)
    else:
        low, high = _bootstrap_limits(values, cluster_id, seed)
    return Estimate(mean, low, high, values.size, num_excluded), num_trials


def _t_limits(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    n, mean = values.size, float(values.mean())
    standard_error = float(values.std(ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * standard_error
    return mean - half, mean + half


def _paired_proportions(
    differences: Float[np.ndarray, " n"], num_trials: int, num_excluded: int
) -> Estimate:
    """Bonett and Price (2012): Wald's interval with one pair added to each kind of disagreement."""
    gained, lost = (float((differences == sign).mean()) for sign in (1.0, -1.0))
    p_gained, p_lost = ((num_trials * p + 1) / (num_trials + 2) for p in (gained, lost))
    centre = p_gained - p_lost
    half = _Z * math.sqrt((p_gained + p_lost - centre**2) / (num_trials + 2))
    value, n = float(differences.mean()), differences.size
    change = Estimate(value, centre - half, centre + half, n, num_excluded)
    return _within(change, -1.0, 1.0)


def _bootstrap_limits(
    values: Float[np.ndarray, " n"], cluster_id: Shaped[np.ndarray, " n"], seed: int
) -> tuple[float, float]:
    """Limits of the mean over rows, with whole clusters resampled."""
    _, cluster = np.unique(cluster_id, return_inverse=True)
    sums, sizes = np.bincount(cluster, values), np.bincount(cluster)
    num_clusters = sums.size
    rng = np.random.default_rng(seed)
    chunk = max(1, _WEIGHTS_PER_CHUNK // num_clusters)
    means: list[Float[np.ndarray, " r"]] = []
    for start in range(0, NUM_RESAMPLES, chunk):
        num_draws = min(chunk, NUM_RESAMPLES - start)
        weights = rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), num_draws)
        means.append(weights @ sums / (weights @ sizes))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return float(low), float(high)
