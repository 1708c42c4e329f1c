"""95 % confidence intervals for everything that a report prints.

- a proportion: Wilson's score interval (Wilson 1927)
- a mean: Student's t interval
- a paired difference (same images, same seeds): t interval of the differences; where both sides are
  0 or 1, Bonett and Price's adjusted Wald interval, which keeps its width when no pair disagrees
- rows that share an image: percentile bootstrap over images (Efron), seeded
- an unweighted mean of independent figures: MOVER (Zou and Donner 2008), from their intervals

A NaN sample is one that failed or has nothing to measure: it is left out and counted, never 0.
A difference is called real when it lies "outside its interval": when the interval excludes 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

CONFIDENCE = 0.95
NUM_RESAMPLES = 4000

_Z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
_NAN = float("nan")
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
        """Whether a difference lies outside its interval."""
        return self.rises or self.falls

    @property
    def rises(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0

    @property
    def falls(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high < 0


def estimate(
    samples: Shaped[np.ndarray, " n"] | Sequence[float | int],
    *,
    cluster_id: Shaped[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Estimate:
    """Estimate the mean of samples; samples that are all 0 or 1 are a proportion.

    Args:
        samples: NaN where a sample failed or has nothing to measure.
        cluster_id: The image of each row, where several rows share one.
        seed: Seed of the bootstrap, used with `cluster_id` only.
    """
    values = np.asarray(samples, dtype=np.float64)
    kept = ~np.isnan(values)
    num_excluded = int((~kept).sum())
    if cluster_id is not None:
        return _clustered_mean(values[kept], cluster_id[kept], num_excluded, seed)
    if kept.any() and _is_binary(values[kept]):
        return proportion(int(values[kept].sum()), int(kept.sum()), num_excluded=num_excluded)
    return _t_mean(values[kept], num_excluded)


def proportion(num_successes: int, n: int, *, num_excluded: int = 0) -> Estimate:
    """Estimate a proportion with Wilson's score interval.

    Raises:
        ValueError: `num_successes` is not within 0..n.
    """
    if not 0 <= num_successes <= n:
        raise ValueError(f"num_successes is {num_successes}: expected 0 to n = {n}")
    if n == 0:
        return Estimate(_NAN, _NAN, _NAN, 0, num_excluded)
    share = num_successes / n
    shrink = 1 / (1 + _Z**2 / n)
    centre = shrink * (share + _Z**2 / (2 * n))
    half = shrink * _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return Estimate(
        share,
        0.0 if num_successes == 0 else centre - half,
        1.0 if num_successes == n else centre + half,
        n,
        num_excluded,
    )


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Estimate the unweighted mean of independent estimates; undefined if one of them is.

    Its limits are the mean -+ sqrt(sum of squared distances to the limits) / number of estimates.

    Raises:
        ValueError: There are none.
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
    seed: int = 0,
) -> Estimate:
    """Estimate mean(after - before) over the same scenes and seeds.

    A pair with NaN on either side is left out and counted.

    Args:
        before: Row i is the same scene, drawn with the same seed, as row i of `after`.
        after: As `before`.
        cluster_id: The image of each row, where several rows share one.
        seed: Seed of the bootstrap, used with `cluster_id` only.

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
    if cluster_id is not None:
        return _clustered_mean(differences[kept], cluster_id[kept], num_excluded, seed)
    if kept.any() and _is_binary(first[kept]) and _is_binary(second[kept]):
        return _paired_proportions(differences[kept], num_excluded)
    return _t_mean(differences[kept], num_excluded)


def _is_binary(values: Float[np.ndarray, " n"]) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _t_mean(values: Float[np.ndarray, " n"], num_excluded: int) -> Estimate:
    n = values.size
    if n == 0:
        return Estimate(_NAN, _NAN, _NAN, 0, num_excluded)
    mean = float(values.mean())
    if n == 1:
        return Estimate(mean, _NAN, _NAN, 1, num_excluded)
    standard_error = float(values.std(ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * standard_error
    return Estimate(mean, mean - half, mean + half, n, num_excluded)


def _paired_proportions(differences: Float[np.ndarray, " n"], num_excluded: int) -> Estimate:
    """Bonett and Price (2012): Wald's interval with one pair added to each kind of disagreement."""
    n = differences.size
    gained, lost = (int((differences == sign).sum()) for sign in (1.0, -1.0))
    p_gained, p_lost = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    centre = p_gained - p_lost
    half = _Z * math.sqrt((p_gained + p_lost - centre**2) / (n + 2))
    return Estimate(
        (gained - lost) / n, max(-1.0, centre - half), min(1.0, centre + half), n, num_excluded
    )


def _clustered_mean(
    values: Float[np.ndarray, " n"],
    cluster_id: Shaped[np.ndarray, " n"],
    num_excluded: int,
    seed: int,
) -> Estimate:
    """Mean over rows, with whole clusters resampled."""
    if values.size == 0:
        return Estimate(_NAN, _NAN, _NAN, 0, num_excluded)
    mean = float(values.mean())
    _, cluster = np.unique(cluster_id, return_inverse=True)
    sums, sizes = np.bincount(cluster, values), np.bincount(cluster)
    num_clusters = sums.size
    if num_clusters == 1:
        return Estimate(mean, _NAN, _NAN, values.size, num_excluded)
    rng = np.random.default_rng(seed)
    chunk = max(1, _WEIGHTS_PER_CHUNK // num_clusters)
    means: list[Float[np.ndarray, " r"]] = []
    for start in range(0, NUM_RESAMPLES, chunk):
        num_draws = min(chunk, NUM_RESAMPLES - start)
        weights = rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), num_draws)
        means.append(weights @ sums / (weights @ sizes))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return Estimate(mean, float(low), float(high), values.size, num_excluded)
