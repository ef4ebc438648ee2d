"""Two scores of the same images: how far are they apart?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt32

from infoscope.scope.groups import feature_mean
from infoscope.scope.score import EmptyPairs, PairScores


@dataclass(frozen=True)
class PairedDifference:
    """One score minus another over the pairs that are valid in both; every array is ``[feature]``.

    Attributes:
        difference: mean over those pairs, in D; NaN with fewer than ``min_pairs``.
        pairs: how many there are.
    """

    difference: Float64[np.ndarray, " feature"]
    pairs: UInt32[np.ndarray, " feature"]


def paired_difference(
    one: PairScores,
    other: PairScores,
    feature: UInt32[np.ndarray, " pair"],
    n_features: int,
    min_pairs: int,
    empty_as: EmptyPairs = "leave-out",
) -> PairedDifference:
    """Mean distance of ``one`` minus that of ``other``, image by image.

    The difference of two means over different images would be that of the images too.

    Args:
        one: scores of some pairs.
        other: other scores of the same pairs.
        feature: the feature of each pair, below ``n_features``.
        n_features: features of the dictionary.
        min_pairs: a difference needs this many pairs.
        empty_as: as in `infoscope.scope.score.score_features`.

    Example:
        >>> one, other = (
        ...     PairScores(emd=np.array(emd), mass_first=np.ones(2), mass_second=np.array([1.0, mass]),
        ...         retention=np.ones(2), effective_area=np.ones(2), cosine_distance=np.ones(2), mass_ratio=np.ones(2))
        ...     for emd, mass in (([0.5, 0.25], 1.0), ([0.125, np.nan], 0.0)))
        >>> found = paired_difference(one, other, np.zeros(2, np.uint32), n_features=1, min_pairs=1)
        >>> found.difference.tolist(), found.pairs.tolist()
        ([0.375], [1])
    """
    difference = one.distances(empty_as) - other.distances(empty_as)
    valid = ~np.isnan(difference)
    pairs = np.bincount(feature[valid], minlength=n_features).astype(np.uint32)
    return PairedDifference(feature_mean(difference, valid, feature, n_features, min_pairs), pairs)
