"""From pairs of maps to the score of each feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt32

from infoscope.errors import InfoscopeError
from infoscope.options import EmptyPairs, Metric
from infoscope.scope.emd import emd_pairs
from infoscope.scope.geometry import patch_distances
from infoscope.scope.interval import DRAWS, mean_interval
from infoscope.scope.maps import MapPairs, SparseMaps, overlap_maps


def feature_mean(
    values: Float64[np.ndarray, " pair"],
    over: Bool[np.ndarray, " pair"],
    feature: UInt32[np.ndarray, " pair"],
    n_features: int,
    least: int = 1,
) -> Float64[np.ndarray, " feature"]:
    """Mean of the values over those of each feature's pairs that count.

    Args:
        values: a number of each pair.
        over: which pairs count.
        feature: the feature of each pair.
        n_features: features of the dictionary.
        least: a feature with fewer pairs than this gets NaN, as does one without pairs.

    Example:
        >>> feature_mean(np.array([1.0, 3.0, 5.0]), np.array([True, True, False]), np.array([1, 1, 1], np.uint32), 2)
        array([nan,  2.])
    """
    counts = np.bincount(feature[over], minlength=n_features)
    sums = np.bincount(feature[over], weights=values[over], minlength=n_features)
    return np.where(counts >= max(least, 1), sums / np.maximum(counts, 1), np.nan)


RETAINED = 0.5
"""The least retention with which a pair counts towards ``cds_retained``."""

# Cells of the maps that are dense at a time, 16 MB of them, so that memory does not grow with the number of pairs.
_DENSE_CELLS = 2**22


@dataclass(frozen=True)
class PairScores:
    """The scores of each pair of maps on the overlap; every array is ``[pair]``.

    Attributes:
        emd: earth mover's distance between the normalised maps over D, the largest ground distance on the overlap,
            0 to 1; NaN where either map has no mass.
        mass_first: sum of the first crop's codes.
        mass_second: sum of the second crop's codes.
        retention: the smaller of the two maps' peaks over the reference activation.
        effective_area: exp of the entropy of the normalised map, in patches, mean of both crops; NaN where ``emd`` is.
        cosine_distance: 1 - cosine of the two maps, 0 to 1; NaN where ``emd`` is.
        mass_ratio: smaller over larger mass, 0 to 1; NaN where both maps have no mass.
    """

    emd: Float64[np.ndarray, " pair"]
    mass_first: Float64[np.ndarray, " pair"]
    mass_second: Float64[np.ndarray, " pair"]
    retention: Float64[np.ndarray, " pair"]
    effective_area: Float64[np.ndarray, " pair"]
    cosine_distance: Float64[np.ndarray, " pair"]
    mass_ratio: Float64[np.ndarray, " pair"]

    @classmethod
    def concatenate(cls, parts: Sequence[PairScores]) -> PairScores:
        """Several parts, one after the other; at least one."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> PairScores:
        """The inverse of `arrays`; other entries are ignored."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, as the constructor takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def take(self, index: Int64[np.ndarray, " taken"]) -> PairScores:
        """The pairs at ``index``, in that order."""
        return PairScores(**{name: values[index] for name, values in self.arrays().items()})

    def one_empty(self) -> Bool[np.ndarray, " pair"]:
        """Pairs with mass in exactly one crop."""
        one_empty: Bool[np.ndarray, " pair"] = (self.mass_first > 0) != (self.mass_second > 0)
        return one_empty

    def distances(self, empty_as: EmptyPairs) -> Float64[np.ndarray, " pair"]:
        """``emd``, with 1 for pairs with mass in only one crop if these count; NaN where a pair does not count."""
        return np.where(self.one_empty(), 1.0, self.emd) if empty_as == "one" else self.emd


@dataclass(frozen=True)
class FeatureScores:
    """The scores of each feature, from those of its pairs; every array is ``[feature]``, NaN where there is no answer.

    Attributes:
        cds: Contextual Dependency Score: mean EMD over the valid pairs, 0 to 1; NaN with fewer than ``min_pairs``.
        cds_ci_lower: lower end of its 95 % bootstrap-t interval, given the pool's top images.
        cds_ci_upper: upper end.
        pairs: number of valid pairs.
        vanished: share of the top images with mass on the overlap in exactly one crop; NaN without top images.
        retention: mean over the top images; NaN without them.
        cds_retained: ``cds`` over the valid pairs with a retention of at least 0.5.
        effective_area: mean over the pairs with mass in both crops, in patches.
        cosine_distance: mean over the same pairs.
        mass_ratio: mean over the same pairs.
    """

    cds: Float64[np.ndarray, " feature"]
    cds_ci_lower: Float64[np.ndarray, " feature"]
    cds_ci_upper: Float64[np.ndarray, " feature"]
    pairs: UInt32[np.ndarray, " feature"]
    vanished: Float64[np.ndarray, " feature"]
    retention: Float64[np.ndarray, " feature"]
    cds_retained: Float64[np.ndarray, " feature"]
    effective_area: Float64[np.ndarray, " feature"]
    cosine_distance: Float64[np.ndarray, " feature"]
    mass_ratio: Float64[np.ndarray, " feature"]


def score_pairs(
    pairs: MapPairs,
    grid: int,
    shift: int,
    metric: Metric = "euclidean",
    reference: Float[np.ndarray, " pair"] | None = None,
) -> PairScores:
    """Compare the two crops' maps of every pair on the patches they share.

    Pairs are compared a bounded number at a time, so that memory beyond the pairs and the scores stays bounded.

    Args:
        pairs: the maps, on the full grid.
        grid: p, patches per side.
        shift: s, patches between the crops, 0 to p-2.
        metric: ground distance between patches.
        reference: activation that retention divides by, ``[pair]``; by default the ranking score. Where images rank by
            mean or sum, the score is no activation that a peak can be compared with: pass ``pairs.peak()`` instead.

    Raises:
        InfoscopeError: the maps are not on a grid of this size, or the shift leaves no overlap.

    Example:
        A peak glued to one absolute position moves by s patches both ways against the pixels, s/(p-s-1) of D:

        >>> maps = np.zeros((1, 14 * 14)); maps[0, 5 * 14 + 7] = 3.0
        >>> glued = SparseMaps.from_dense(maps)
        >>> pairs = MapPairs(np.zeros(1, np.uint32), np.zeros(1, np.uint16), np.zeros(1, np.uint64),
        ...                  np.array([4.0], np.float32), first=glued, second=glued)
        >>> scores = score_pairs(pairs, grid=14, shift=2)
        >>> scores.emd.round(4).tolist(), scores.retention.tolist()
        ([0.1818], [0.75])
    """
    if not 0 <= shift <= grid - 2:
        raise InfoscopeError(f"shift {shift} leaves no overlap on {grid} x {grid} patches: choose 0 to {grid - 2}")
    if not pairs.first.cells == pairs.second.cells == grid * grid:
        raise InfoscopeError(
            f"maps of {pairs.first.cells} and {pairs.second.cells} patches are not on a grid of {grid} x {grid}"
        )
    reference = pairs.score if reference is None else reference
    distances = patch_distances(grid - shift, metric)
    at_once = max(1, _DENSE_CELLS // (grid * grid))
    scores = []
    for begin in range(0, max(len(pairs), 1), at_once):
        index = np.arange(begin, min(begin + at_once, len(pairs)))
        first, second = overlap_maps(pairs.first.take(index), pairs.second.take(index), grid, shift)
        scores.append(score_maps(first, second, distances, reference[index]))
    return PairScores.concatenate(scores)


def score_maps(
    first: SparseMaps,
    second: SparseMaps,
    distances: Float64[np.ndarray, "cell cell"],
    reference: Float[np.ndarray, " pair"],
) -> PairScores:
    """Compare maps pair by pair under any ground distance.

    Args:
        first: maps of the first crop on the overlap.
        second: maps of the second crop on the same cells.
        distances: ground distances between cells; the largest is D.
        reference: activation that retention divides by, ``[pair]``.

    Example:
        >>> left, right = np.array([[1.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 2.0]])
        >>> line = np.abs(np.subtract.outer(np.arange(3.0), np.arange(3.0)))
        >>> scores = score_maps(SparseMaps.from_dense(left), SparseMaps.from_dense(right), line, np.ones(1))
        >>> scores.emd.tolist(), scores.effective_area.round(3).tolist(), scores.cosine_distance.tolist()
        ([0.75], [1.5], [1.0])
    """
    mass_first, mass_second = first.mass(), second.mass()
    smaller, larger = np.minimum(mass_first, mass_second), np.maximum(mass_first, mass_second)
    both, either = smaller > 0, larger > 0
    peak = np.minimum(first.peak(), second.peak()).astype(np.float64)
    area = 0.5 * (_effective_area(first, mass_first) + _effective_area(second, mass_second))
    return PairScores(
        # Rounding may put a distance of D just above 1.
        emd=np.minimum(emd_pairs(first, second, distances) / distances.max(), 1.0),
        mass_first=mass_first,
        mass_second=mass_second,
        retention=np.divide(peak, reference, out=np.zeros_like(peak), where=reference > 0),
        effective_area=np.where(both, area, np.nan),
        cosine_distance=np.where(both, _cosine_distance(first, second), np.nan),
        mass_ratio=np.divide(smaller, larger, out=np.full_like(smaller, np.nan), where=either),
    )


def score_features(
    scores: PairScores,
    feature: UInt32[np.ndarray, " pair"],
    n_features: int,
    min_pairs: int,
    empty_as: EmptyPairs = "leave-out",
    draws: int = DRAWS,
    seed: int = 0,
) -> FeatureScores:
    """Gather the pairs' scores by feature.

    Args:
        scores: the scores of all pairs.
        feature: the feature of each pair, below ``n_features``; a feature's pairs are in rank order.
        n_features: features of the dictionary; each gets an entry, even without pairs.
        min_pairs: CDS needs this many valid pairs; the method's default is half of k, rounded up.
        empty_as: whether a pair with mass in exactly one crop is left out of the mean or counts as an EMD of 1.
        draws: bootstrap draws of the interval.
        seed: seed of those draws.

    Raises:
        ValueError: a feature is not below ``n_features``.

    Example:
        >>> nothing = np.zeros(3)
        >>> scores = PairScores(emd=np.array([0.1, 0.3, np.nan]), mass_first=np.array([1.0, 1.0, 1.0]),
        ...     mass_second=np.array([1.0, 1.0, 0.0]), retention=np.array([0.9, 0.6, 0.0]),
        ...     effective_area=np.ones(3), cosine_distance=np.ones(3), mass_ratio=np.ones(3))
        >>> table = score_features(scores, np.array([1, 1, 1], np.uint32), n_features=2, min_pairs=2)
        >>> table.cds.tolist(), table.pairs.tolist(), table.vanished.round(3).tolist()
        ([nan, 0.2], [0, 2], [nan, 0.333])
    """
    if np.any(feature >= n_features):
        raise ValueError(f"a pair's feature, {feature.max()}, is not below {n_features}")
    both = np.minimum(scores.mass_first, scores.mass_second) > 0
    one = scores.one_empty()
    emd = scores.distances(empty_as)
    valid = ~np.isnan(emd)

    def mean(values: Float64[np.ndarray, " pair"], over: np.ndarray, least: int = 1) -> Float64[np.ndarray, " feature"]:
        return feature_mean(values, over, feature, n_features, least)

    cds = mean(emd, valid, min_pairs)
    pairs = np.bincount(feature[valid], minlength=n_features)
    order = np.argsort(feature[valid], kind="stable")
    start = np.concatenate([[0], np.cumsum(pairs)])
    lower, upper = mean_interval(emd[valid][order], start, draws=draws, seed=seed)
    every = np.ones_like(valid)
    return FeatureScores(
        cds=cds,
        cds_ci_lower=np.where(np.isnan(cds), np.nan, lower),
        cds_ci_upper=np.where(np.isnan(cds), np.nan, upper),
        pairs=pairs.astype(np.uint32),
        vanished=mean(one.astype(np.float64), every),
        retention=mean(scores.retention, every),
        cds_retained=mean(emd, valid & (scores.retention >= RETAINED), min_pairs),
        effective_area=mean(scores.effective_area, both),
        cosine_distance=mean(scores.cosine_distance, both),
        mass_ratio=mean(scores.mass_ratio, both),
    )


def _effective_area(maps: SparseMaps, mass: Float64[np.ndarray, " pair"]) -> Float64[np.ndarray, " pair"]:
    """Exp of the entropy in nats of each normalised map, in cells; 1 for an empty map."""
    share = maps.value / mass[maps.rows()]
    area: Float64[np.ndarray, " pair"] = np.exp(-_sums(maps, share * np.log(share)))
    return area


def _cosine_distance(first: SparseMaps, second: SparseMaps) -> Float64[np.ndarray, " pair"]:
    """1 - cosine of each pair of maps; 1 where either is empty."""
    ours, theirs = first.value.astype(np.float64), second.value.astype(np.float64)
    inner = _sums(first, ours * second.dense()[first.rows(), first.patch])
    norms = np.sqrt(_sums(first, ours**2) * _sums(second, theirs**2))
    cosine = np.divide(inner, norms, out=np.zeros_like(inner), where=norms > 0)
    distance: Float64[np.ndarray, " pair"] = np.clip(1.0 - cosine, 0.0, 1.0)
    return distance


def _sums(maps: SparseMaps, weights: Float64[np.ndarray, " entry"]) -> Float64[np.ndarray, " pair"]:
    """Sum of the entries' weights over each map."""
    return np.bincount(maps.rows(), weights=weights, minlength=len(maps)).astype(np.float64)
