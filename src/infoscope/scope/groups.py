"""Means over each feature's pairs."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, UInt32


def feature_mean(
    values: Float64[np.ndarray, " pair"],
    over: Bool[np.ndarray, " pair"],
    feature: UInt32[np.ndarray, " pair"],
    n_features: int,
    least: int = 1,
) -> Float64[np.ndarray, " feature"]:
    """Mean of the values of each feature's pairs, of those that count.

    Args:
        values: a number of each pair.
        over: which pairs count.
        feature: the feature of each pair.
        n_features: features of the dictionary.
        least: fewer pairs than this give NaN, and so does none.

    Example:
        >>> feature_mean(np.array([1.0, 3.0, 5.0]), np.array([True, True, False]), np.array([1, 1, 1], np.uint32), 2)
        array([nan,  2.])
    """
    counts = np.bincount(feature[over], minlength=n_features)
    sums = np.bincount(feature[over], weights=values[over], minlength=n_features)
    return np.where(counts >= max(least, 1), sums / np.maximum(counts, 1), np.nan)
