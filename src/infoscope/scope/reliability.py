"""Split-half reliability of a score over features, and how its variants agree with it (method, section 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import rankdata


@dataclass(frozen=True)
class Reliability:
    """Agreement between scores over even and over odd ranks.

    Attributes:
        features: how many have both.
        spearman: rank correlation between the halves, where above 0 corrected to the whole length by Spearman and
            Brown.
        pearson: linear correlation, likewise. Both are NaN with fewer than three features or where a half is constant.
    """

    features: int
    spearman: float
    pearson: float


@dataclass(frozen=True)
class Agreement:
    """A variant of CDS against CDS itself, over the features that have both.

    Attributes:
        features: how many.
        mean: of the variant.
        cds_mean: of CDS, over the same features.
        spearman: rank correlation; NaN with fewer than three features or where either is constant.
    """

    features: int
    mean: float
    cds_mean: float
    spearman: float


def split_half(even: Float64[np.ndarray, " feature"], odd: Float64[np.ndarray, " feature"]) -> Reliability:
    """Reliability of a score from its two halves: 2 r / (1 + r) for a correlation r above 0 between them, else r.

    Example:
        >>> found = split_half(np.array([0.1, 0.2, 0.3, np.nan]), np.array([0.2, 0.1, 0.3, 0.5]))
        >>> found.features, round(found.spearman, 4)    # r is 0.5
        (3, 0.6667)
    """
    both = ~np.isnan(even) & ~np.isnan(odd)
    even, odd = even[both], odd[both]
    return Reliability(len(even), _corrected(spearman(even, odd)), _corrected(_pearson(even, odd)))


def agreement(variant: Float64[np.ndarray, " feature"], cds: Float64[np.ndarray, " feature"]) -> Agreement:
    """How a variant of a score agrees with it.

    Example:
        >>> agreement(np.array([0.2, 0.3, 0.5, np.nan]), np.array([0.1, 0.2, 0.3, 0.4])).spearman
        1.0
    """
    both: Bool[np.ndarray, " feature"] = ~np.isnan(variant) & ~np.isnan(cds)
    if not both.any():
        return Agreement(0, math.nan, math.nan, math.nan)
    ours, theirs = variant[both], cds[both]
    return Agreement(len(ours), float(ours.mean()), float(theirs.mean()), spearman(ours, theirs))


def spearman(first: Float64[np.ndarray, " value"], second: Float64[np.ndarray, " value"]) -> float:
    """Spearman's rank correlation, ties by their mean rank; NaN with fewer than three values or where all are equal.

    Example:
        >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
        0.5
    """
    if len(first) < 3:
        return math.nan
    return _pearson(rankdata(first), rankdata(second))


def _pearson(first: Float64[np.ndarray, " value"], second: Float64[np.ndarray, " value"]) -> float:
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.clip(np.corrcoef(first, second)[0, 1], -1.0, 1.0))


def _corrected(r: float) -> float:
    # Halves of one score cannot truly disagree, and the formula runs off to minus infinity towards r = -1.
    return 2.0 * r / (1.0 + r) if r > 0 else r
