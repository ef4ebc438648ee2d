"""Rank statistics: what of one measure others explain, and what is left."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from scipy.stats import rankdata

from infoscope.scope.reliability import spearman


def _standard_ranks(values: Float64[np.ndarray, ...]) -> Float64[np.ndarray, ...]:
    """Ranks of each column, ties by mean rank, with mean 0 and spread 1; 0 where a column is constant."""
    ranks = rankdata(values, axis=0)
    ranks -= ranks.mean(0)
    spread = ranks.std(0)
    standard: np.ndarray = ranks / np.where(spread > 0, spread, 1.0)
    return standard


def left_over(
    target: Float64[np.ndarray, " feature"], others: Float64[np.ndarray, "feature measure"]
) -> Float64[np.ndarray, " feature"]:
    """Ranks of a measure less the least-squares fit by the ranks of others.

    Args:
        target: the measure; no NaN.
        others: the other measures, side by side; no NaN.

    Example:
        >>> left_over(np.array([1.0, 2.0, 3.0]), np.array([[5.0], [6.0], [9.0]])).round(6) + 0.0
        array([0., 0., 0.])
    """
    scale = float(rankdata(target).std())
    own, given = _standard_ranks(target), _standard_ranks(others)
    weight, *_ = np.linalg.lstsq(given, own, rcond=None)
    left: np.ndarray = (own - given @ weight) * scale
    return left


def beyond(
    cds: Float64[np.ndarray, " feature"], other: Float64[np.ndarray, " feature"]
) -> Float64[np.ndarray, " feature"]:
    """The rank of CDS less what the rank of another measure says of it, over the features that have both; else NaN.

    Example:
        >>> beyond(np.array([0.1, 0.2, 0.3, np.nan]), np.array([1.0, 3.0, 2.0, 4.0])).round(2)
        array([-0.5, -0.5,  1. ,   nan])
    """
    both = ~np.isnan(cds) & ~np.isnan(other)
    found = np.full(len(cds), np.nan)
    found[both] = left_over(cds[both], other[both][:, None])
    return found


def explained_share(target: Float64[np.ndarray, " feature"], others: Float64[np.ndarray, "feature measure"]) -> float:
    """Share of the variance of a measure's ranks that the ranks of others explain (R squared, linear in ranks).

    Of one other measure it is the square of Spearman's correlation. NaN where the measure is constant.

    Example:
        >>> round(explained_share(np.array([1.0, 2.0, 3.0]), np.array([[1.0], [3.0], [2.0]])), 9)
        0.25
    """
    total = float((_standard_ranks(target) ** 2).sum()) * float(rankdata(target).std()) ** 2
    if not total:
        return float("nan")
    return float(np.clip(1.0 - (left_over(target, others) ** 2).sum() / total, 0.0, 1.0))


def partial_spearman(
    first: Float64[np.ndarray, " feature"],
    second: Float64[np.ndarray, " feature"],
    given: Float64[np.ndarray, "feature measure"],
) -> float:
    """Partial rank correlation: of what is left of two measures' ranks once those of others are taken out.

    NaN where nothing is left of either.

    Args:
        first: a measure; no NaN.
        second: another.
        given: the measures that are held fixed; with none it is Spearman's correlation.

    Example:
        >>> random = np.random.default_rng(0)
        >>> cause = random.normal(size=2000)
        >>> one, two = cause + random.normal(size=2000), cause + random.normal(size=2000)
        >>> round(spearman(one, two), 1), abs(round(partial_spearman(one, two, cause[:, None]), 1))
        (0.5, 0.0)
    """
    if not given.shape[1]:
        return spearman(first, second)
    ours, theirs = left_over(first, given), left_over(second, given)
    # What is left of a measure that the others give exactly is rounding.
    if min(ours.std(), theirs.std()) < 1e-9 * len(first):
        return float("nan")
    return float(np.clip(np.corrcoef(ours, theirs)[0, 1], -1.0, 1.0))
