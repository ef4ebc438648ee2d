"""Sampling error of a mean over few pairs: the bootstrap-t interval (method, section 4).

The EMDs of pairs are skewed to the right (real ones by 2.4), so that at k = 16 the percentile bootstrap's 95 % interval
covers the mean only some 87 % of the time. Studentising each draw by its own standard error repairs most of that: 92 %
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5).

Two cases need a decision:

- A draw that holds only one value has no standard error. Its t is set to the limit, plus or minus infinity (0 where
  that value is the mean itself), and the draw is kept: such draws are the least certain ones, and dropping them would
  narrow the interval just where the sample says least.
- An end that is therefore infinite, or merely far out, is cut at Hoeffding's bound (Probability Inequalities for Sums
  of Bounded Random Variables, 1963, equation 2.1), which holds for every distribution on [0, 1] and lies in that range.
  Simulated on samples with many equal values, it keeps the coverage that cutting at 0 and 1 has, at a third of the
  width.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import rel_entr

from infoscope.runtime.execution import available_cores
from infoscope.scope.interval_kernel import bootstrap_t_bounds

# With 1999 draws the 2.5 % and 97.5 % points are order statistics, 50 from either end, and need no interpolation. The
# tail they cut off has a standard deviation of 0.35 percentage points over draws, small beside the method's own error.
DRAWS = 1999
# The fewest with which both points are order statistics, for whoever needs no interval.
FEWEST_DRAWS = 39

# Samples that one thread takes at a time.
_SAMPLES_AT_ONCE = 2048

# Values closer than this count as equal: equal distances, such as those of a peak glued to one position, differ by
# rounding.
_ROUNDING = 1e-12


def mean_interval(
    values: Float64[np.ndarray, " value"],
    start: Int64[np.ndarray, " sample_plus_one"],
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Float64[np.ndarray, " sample"], Float64[np.ndarray, " sample"]]:
    """Bootstrap-t interval of the mean of each sample of values in [0, 1].

    The draws depend only on the seed and on the number of values in a sample, so a sample's interval depends neither on
    which other samples there are nor on their order.

    Args:
        values: the values of all samples, one sample after the other.
        start: row pointers: sample i holds ``values[start[i]:start[i + 1]]``.
        level: share of samples whose interval should hold the mean.
        draws: bootstrap draws; ``(draws + 1) * (1 - level) / 2`` must be a whole number.
        seed: seed of the draws.

    Returns:
        Lower and upper ends, ``[sample]`` each: NaN with fewer than two values; the mean where all values are equal.

    Raises:
        ValueError: a value lies outside 0 to 1, or the draws do not fit the level.

    Example:
        >>> emd = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.4, 0.1, 0.2, 0.5, 0.5])
        >>> lower, upper = mean_interval(emd, start=np.array([0, 8, 10]))
        >>> lower.round(1).tolist(), upper.round(1).tolist()
        ([0.1, 0.5], [0.3, 0.5])
    """
    tail = (draws + 1) * (1.0 - level) / 2.0
    rank = round(tail)
    if rank < 1 or abs(tail - rank) > 1e-6:
        raise ValueError(f"{draws} draws have no order statistic at level {level}; 1999 fit 0.95")
    if not np.all((values >= 0.0) & (values <= 1.0)):
        raise ValueError("values must lie in 0 to 1")

    sizes = np.diff(start)
    lower = np.full(len(sizes), np.nan)
    upper = np.full(len(sizes), np.nan)
    for size in np.unique(sizes[sizes >= 2]):
        of_size = np.flatnonzero(sizes == size)
        samples = values[start[of_size, None] + np.arange(size)]
        # A running sum adds in the order that bincount does, and so gives the very mean that the scores report.
        means = np.cumsum(samples, axis=1)[:, -1] / size
        lower[of_size] = upper[of_size] = means
        spread = samples.max(axis=1) - samples.min(axis=1) > _ROUNDING
        if spread.any():
            ends = _interval(samples[spread], means[spread], rank, (1.0 - level) / 2.0, draws, seed)
            lower[of_size[spread]], upper[of_size[spread]] = ends
    return lower, upper


def _interval(
    samples: Float64[np.ndarray, "sample value"],
    means: Float64[np.ndarray, " sample"],
    rank: int,
    tail: float,
    draws: int,
    seed: int,
) -> tuple[Float64[np.ndarray, " sample"], Float64[np.ndarray, " sample"]]:
    """Intervals of samples of equal size, none of which is constant."""
    size = samples.shape[1]
    counts = np.random.default_rng([seed, size]).multinomial(size, np.full(size, 1.0 / size), size=draws)
    weights = np.ascontiguousarray(counts.T, dtype=np.float64)

    def bounds(begin: int) -> tuple[np.ndarray, np.ndarray]:
        own = slice(begin, begin + _SAMPLES_AT_ONCE)
        ends: tuple[np.ndarray, np.ndarray] = bootstrap_t_bounds(samples[own], means[own], weights, rank)
        return ends

    # Threads of this call alone, as in `emd_pairs`: numba's own abort a process that enters them twice or forks.
    with ThreadPoolExecutor(available_cores()) as pool:
        parts = list(pool.map(bounds, range(0, len(samples), _SAMPLES_AT_ONCE)))
    lower, upper = (np.concatenate(ends) for ends in zip(*parts, strict=True))
    # 1 - (1 - mean) may round above a tiny mean.
    limit = np.minimum(1.0 - hoeffding_upper(1.0 - means, size, tail), means)
    return np.maximum(lower, limit), np.minimum(upper, hoeffding_upper(means, size, tail))


def hoeffding_upper(means: Float64[np.ndarray, " sample"], size: int, tail: float) -> Float64[np.ndarray, " sample"]:
    """Upper bound on the mean of any distribution on [0, 1], exceeded with a probability of at most ``tail``.

    The bound u of a sample mean m of n values solves ``n KL(m, u) = log(1 / tail)``, KL the divergence between coins of
    bias m and u (Hoeffding 1963, equation 2.1).

    Args:
        means: sample means, ``[sample]``.
        size: n, values in each sample.
        tail: probability that the mean exceeds the bound.

    Example:
        >>> hoeffding_upper(np.array([0.0, 0.1, 1.0]), size=16, tail=0.025).round(3).tolist()
        [0.206, 0.403, 1.0]
    """
    low, high = means.copy(), np.ones_like(means)
    limit = -np.log(tail) / size
    for _ in range(60):  # halvings, to the last bit of a float64
        middle = 0.5 * (low + high)
        inside: Bool[np.ndarray, " sample"] = rel_entr(means, middle) + rel_entr(1.0 - means, 1.0 - middle) <= limit
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return high
