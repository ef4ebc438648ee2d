"""The bootstrap-t of many small samples of equal size, compiled; `infoscope.scope.interval` argues the method."""

from __future__ import annotations

import numpy as np

from infoscope.runtime.compilation import compiled

# A draw whose variance is this small a share of its mean square holds only one value; float64 rounding leaves 1e-15.
NO_SPREAD = 1e-12
# Such a draw lies on the sample's mean, up to rounding, where it is this close in standard deviations.
AT_MEAN = 1e-9


@compiled()
def _tails(values: np.ndarray, rank: int) -> tuple[float, float]:
    """The ``rank``-th smallest and the ``rank``-th largest value, in one pass that keeps only the tails.

    A full sort costs eight times as much, numba's partition three times.
    """
    low = np.full(rank, np.inf)
    high = np.full(rank, -np.inf)
    for value in values:
        if value < low[-1]:
            j = rank - 1
            while j > 0 and low[j - 1] > value:
                low[j] = low[j - 1]
                j -= 1
            low[j] = value
        if value > high[-1]:
            j = rank - 1
            while j > 0 and high[j - 1] < value:
                high[j] = high[j - 1]
                j -= 1
            high[j] = value
    return low[-1], high[-1]


@compiled()
def bootstrap_t_bounds(
    samples: np.ndarray, means: np.ndarray, counts: np.ndarray, rank: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the interval of each sample's mean; infinite where the draws set no limit.

    Args:
        samples: float64 ``[sample, value]``, each with at least two different values.
        means: float64 ``[sample]``, the samples' means.
        counts: float64 ``[value, draw]``, how often each draw holds each value of a sample.
        rank: which order statistic of the draws ends either tail, counted from 1.

    Returns:
        Lower and upper ends, float64 ``[sample]`` each.
    """
    n_samples, size = samples.shape
    draws = counts.shape[1]
    lower = np.empty(n_samples)
    upper = np.empty(n_samples)
    for i in range(n_samples):
        # Summing offsets from the mean rather than values keeps cancellation in the variances below small.
        total = np.zeros(draws)
        square = np.zeros(draws)
        variance = 0.0
        for j in range(size):
            offset = samples[i, j] - means[i]
            variance += offset * offset
            for b in range(draws):
                weighted = counts[j, b] * offset
                total[b] += weighted
                square[b] += weighted * offset
        deviation = np.sqrt(variance / size)

        # The factor sqrt(size) of both standard errors cancels between t and the bounds.
        t = np.empty(draws)
        for b in range(draws):
            mean = total[b] / size
            mean_square = square[b] / size
            spread = mean_square - mean * mean
            if spread > NO_SPREAD * mean_square:
                t[b] = mean / np.sqrt(spread)
            elif abs(mean) <= AT_MEAN * deviation:
                t[b] = 0.0
            else:
                t[b] = np.inf if mean > 0.0 else -np.inf

        low_t, high_t = _tails(t, rank)
        lower[i] = means[i] - high_t * deviation
        upper[i] = means[i] - low_t * deviation
    return lower, upper
