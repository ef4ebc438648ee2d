"""What CDS alone cannot tell, from the very maps it is computed of (method, section 4): pairs first, then features.

The position control asks whether a map stays at one place of the crop, the null what unrelated pictures would give, and
the calibrated score how much of that is left between two crops of one picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt16, UInt32

from infoscope.runtime.choices import Metric
from infoscope.scope.companions import Companions, compare_maps
from infoscope.scope.emd import emd_pairs
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import MapPairs, overlap_maps
from infoscope.scope.score import EmptyPairs, FeatureScores, PairScores, feature_mean

FLOORS = (0.1, 0.25, 0.5)
"""Shares of a map's maximum under which the sensitivity table takes codes for 0; a floor of 0 is the score itself."""

LEAST_NULL = 0.5
"""Patches: where unrelated pictures are closer than this, their distance calibrates nothing."""

# Pairs of one block: a map and its partner are laid out a few at a time, so that memory does not grow with the pairs.
_BLOCK = 16384


@dataclass(frozen=True)
class PairControls:
    """What each pair of maps, and each feature's pairs taken together, show beside the score; ``[pair]`` each.

    Attributes:
        position: earth mover's distance between the two normalised maps on the full grid, at equal places of the crops,
            over the grid's largest distance, 0 to 1; NaN where either map has no mass.
        null: the same distance on the overlap between the first map of this pair and the second map of the feature's
            next valid pair, cyclic, over the overlap's largest distance; NaN in pairs that are not valid and where the
            feature has no other.
        floors: the pair's distance on the overlap when codes under a share of each map's maximum count as 0,
            ``[pair, floor]``, for the shares in `FLOORS`; NaN where not computed, and where either map has no mass
            unless such pairs count as 1.
        companions: breadth and change on the overlap.
    """

    position: Float64[np.ndarray, " pair"]
    null: Float64[np.ndarray, " pair"]
    floors: Float64[np.ndarray, "pair floor"]
    companions: Companions

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name; `from_arrays` takes them back."""
        return {"position": self.position, "null": self.null, "floors": self.floors, **self.companions.arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> PairControls:
        """What `arrays` gave; others are left aside."""
        names = [field.name for field in fields(Companions)]
        return cls(
            arrays["position"], arrays["null"], arrays["floors"], Companions(**{name: arrays[name] for name in names})
        )

    @classmethod
    def concatenate(cls, parts: Sequence[PairControls]) -> PairControls:
        """Several parts, one after the other; at least one."""
        arrays = [part.arrays() for part in parts]
        return cls.from_arrays({name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]})


@dataclass(frozen=True)
class FeatureControls:
    """What the controls say of each feature; ``[feature]`` each, NaN where there is no answer.

    Attributes:
        position_control: mean distance at equal places of the two crops, over the pairs with mass in both full maps,
            0 to 1; NaN with fewer than ``min_pairs`` of them.
        position_pairs: number of those pairs.
        cds_null: what CDS would be for unrelated pictures: the mean of the pairs' ``null``; NaN with fewer than two
            valid pairs.
        cds_calibrated: CDS over ``cds_null``, both over the pairs with mass in both overlap maps, however others count;
            NaN where either is, and where ``cds_null`` is under half a patch.
        retained_disagrees: 1 where ``cds_retained`` lies outside the interval of CDS, 0 where inside.
        cds_even: CDS over the images of even rank (0, 2, ...); NaN with fewer than half of ``min_pairs``.
        cds_odd: over those of odd rank.
        cds_by_k: CDS of the first images alone, ``[feature, prefix]``, as many as `prefix_sizes` says; NaN where fewer
            of their pairs are valid than ``min_pairs`` in proportion.
        cds_by_floor: CDS under each of `FLOORS`, ``[feature, floor]``; NaN for features it was not computed for.
        entropy: mean over the valid pairs, and so are the rest; see `Companions`.
    """

    position_control: Float64[np.ndarray, " feature"]
    position_pairs: UInt32[np.ndarray, " feature"]
    cds_null: Float64[np.ndarray, " feature"]
    cds_calibrated: Float64[np.ndarray, " feature"]
    retained_disagrees: Float64[np.ndarray, " feature"]
    cds_even: Float64[np.ndarray, " feature"]
    cds_odd: Float64[np.ndarray, " feature"]
    cds_by_k: Float64[np.ndarray, "feature prefix"]
    cds_by_floor: Float64[np.ndarray, "feature floor"]
    entropy: Float64[np.ndarray, " feature"]
    participation: Float64[np.ndarray, " feature"]
    gyration: Float64[np.ndarray, " feature"]
    moran: Float64[np.ndarray, " feature"]
    peak_displacement: Float64[np.ndarray, " feature"]
    support_iou: Float64[np.ndarray, " feature"]
    jensen_shannon: Float64[np.ndarray, " feature"]


def control_pairs(
    pairs: MapPairs,
    grid: int,
    shift: int,
    metric: Metric = "euclidean",
    floored: Bool[np.ndarray, " pair"] | None = None,
    empty_as: EmptyPairs = "leave-out",
) -> PairControls:
    """The controls of every pair. All pairs of a feature must be there, since the null goes from one to the next.

    Works in blocks, so that memory beyond the pairs and the results stays bounded.

    Args:
        pairs: the maps, on the full grid, whole features.
        grid: p, patches per side.
        shift: s, patches between the crops, 0 to p-2.
        metric: ground distance between patches.
        floored: the pairs whose distances under `FLOORS` are computed; none unless given.
        empty_as: as in `score_features`, for the distances under `FLOORS`.

    Example:
        A peak glued to the corner of the crop has no score, since one overlap map is empty, but does not move there:

        >>> from infoscope.scope.maps import SparseMaps
        >>> maps = np.zeros((1, 14 * 14)); maps[0, 0] = 3.0
        >>> glued = SparseMaps.from_dense(maps)
        >>> pairs = MapPairs(np.zeros(1, np.uint32), np.zeros(1, np.uint16), np.zeros(1, np.uint64),
        ...                  np.array([4.0], np.float32), first=glued, second=glued)
        >>> found = control_pairs(pairs, grid=14, shift=2)
        >>> found.position.tolist(), found.null.tolist()
        ([0.0], [nan])
    """
    full, overlap = patch_distances(grid, metric), patch_distances(grid - shift, metric)
    floored = np.zeros(len(pairs), np.bool_) if floored is None else floored
    valid = _overlap_mass(pairs, grid, shift)
    partner = next_valid(pairs.feature, valid)
    blocks = []
    for begin in range(0, max(len(pairs), 1), _BLOCK):
        index = np.arange(begin, min(begin + _BLOCK, len(pairs)))
        whole_first, whole_second = pairs.first.take(index), pairs.second.take(index)
        first, second = overlap_maps(whole_first, whole_second, grid, shift)
        position = np.minimum(emd_pairs(whole_first, whole_second, full) / full.max(), 1.0)
        asked = np.flatnonzero(partner[index] >= 0)
        others = pairs.second.take(partner[index[asked]]).window(grid, 0, 0, grid - shift)
        null = np.full(len(index), np.nan)
        null[asked] = np.minimum(emd_pairs(first.take(asked), others, overlap) / overlap.max(), 1.0)
        floors = np.full((len(index), len(FLOORS)), np.nan)
        some = np.flatnonzero(floored[index])
        for place, floor in enumerate(FLOORS if len(some) else ()):
            ours, theirs = whole_first.take(some).floored(floor), whole_second.take(some).floored(floor)
            ours, theirs = overlap_maps(ours, theirs, grid, shift)
            floors[some, place] = np.minimum(emd_pairs(ours, theirs, overlap) / overlap.max(), 1.0)
            if empty_as == "one":
                one_empty = (np.diff(ours.start) > 0) ^ (np.diff(theirs.start) > 0)
                floors[some[one_empty], place] = 1.0
        blocks.append(PairControls(position, null, floors, compare_maps(first, second, grid - shift, overlap)))
    return PairControls.concatenate(blocks)


def next_valid(feature: UInt32[np.ndarray, " pair"], valid: Bool[np.ndarray, " pair"]) -> Int64[np.ndarray, " pair"]:
    """The same feature's next valid pair in rank order, after the last one its first.

    Args:
        feature: the feature of each pair; a feature's pairs are together, in rank order.
        valid: which pairs have mass on the overlap in both crops.

    Returns:
        Its index; -1 for pairs that are not valid, and where the feature has no other.

    Example:
        >>> next_valid(np.array([0, 0, 0, 4, 4], np.uint32), np.array([True, False, True, True, False]))
        array([ 2, -1,  0, -1, -1])
    """
    index = np.flatnonzero(valid)
    owner = feature[index]
    begins = np.flatnonzero(np.append(True, owner[1:] != owner[:-1])) if len(index) else np.zeros(0, np.int64)
    following = np.roll(index, -1)
    ends = np.append(begins[1:], len(index)) - 1
    if len(index):
        following[ends] = index[begins]
    following[following == index] = -1
    out = np.full(len(feature), -1, np.int64)
    out[index] = following
    return out


def control_features(
    controls: PairControls,
    scores: PairScores,
    table: FeatureScores,
    feature: UInt32[np.ndarray, " pair"],
    rank: UInt16[np.ndarray, " pair"],
    top_images: int,
    min_pairs: int,
    largest: float,
    empty_as: EmptyPairs = "leave-out",
) -> FeatureControls:
    """Gather the pairs' controls by feature.

    Args:
        controls: of all pairs.
        scores: of the same pairs.
        table: what `score_features` made of those.
        feature: the feature of each pair; a feature's pairs in rank order.
        rank: the rank of each pair's image.
        top_images: k.
        min_pairs: CDS needs this many valid pairs.
        largest: the largest ground distance on the overlap, in patches.
        empty_as: as in `score_features`.
    """
    n_features = len(table.cds)
    emd = scores.distances(empty_as)
    valid = ~np.isnan(emd)
    both = ~np.isnan(controls.companions.entropy)

    def mean(values: Float64[np.ndarray, " pair"], over: np.ndarray, least: int = 1) -> Float64[np.ndarray, " feature"]:
        return feature_mean(values, over, feature, n_features, least)

    placed = ~np.isnan(controls.position)
    null = mean(controls.null, ~np.isnan(controls.null), 2)
    half = (min_pairs + 1) // 2
    sizes = prefix_sizes(top_images)
    by_k = [mean(emd, valid & (rank < size), -(-size * min_pairs // top_images)) for size in sizes]
    floors = [np.minimum(controls.floors[:, place], 1.0) for place in range(len(FLOORS))]
    companions = {name: mean(values, both & ~np.isnan(values)) for name, values in controls.companions.arrays().items()}
    return FeatureControls(
        position_control=mean(controls.position, placed, min_pairs),
        position_pairs=np.bincount(feature[placed], minlength=n_features).astype(np.uint32),
        cds_null=null,
        # The null has no pairs with an empty map, so the score over it has none either.
        cds_calibrated=calibrated(mean(scores.emd, ~np.isnan(scores.emd), min_pairs), null, largest),
        retained_disagrees=_disagrees(table),
        cds_even=mean(emd, valid & (rank % 2 == 0), half),
        cds_odd=mean(emd, valid & (rank % 2 == 1), half),
        cds_by_k=np.stack(by_k, axis=1),
        cds_by_floor=np.stack([mean(values, ~np.isnan(values), min_pairs) for values in floors], axis=1),
        **companions,
    )


def calibrated(
    cds: Float64[np.ndarray, " feature"], null: Float64[np.ndarray, " feature"], largest: float
) -> Float64[np.ndarray, " feature"]:
    """CDS over what unrelated pictures give; NaN where those are less than half a patch apart (method, section 4).

    Args:
        cds: scores, over D.
        null: their null, over D.
        largest: D, in patches.

    Example:
        >>> calibrated(np.array([0.1, 0.1]), np.array([0.4, 0.02]), largest=18.0)
        array([0.25,  nan])
    """
    usable = null * largest >= LEAST_NULL
    score: Float64[np.ndarray, " feature"] = np.divide(cds, null, out=np.full_like(cds, np.nan), where=usable)
    return score


def prefix_sizes(top_images: int) -> list[int]:
    """How many of the first images the scores of ``cds_by_k`` are over: powers of two below k, and k.

    Example:
        >>> prefix_sizes(16), prefix_sizes(10)
        ([1, 2, 4, 8, 16], [1, 2, 4, 8, 10])
    """
    return [2**power for power in range(32) if 2**power < top_images] + [top_images]


def _overlap_mass(pairs: MapPairs, grid: int, shift: int) -> Bool[np.ndarray, " pair"]:
    """Which pairs have mass on the overlap in both crops."""
    valid = np.zeros(len(pairs), np.bool_)
    for begin in range(0, len(pairs), _BLOCK):
        index = np.arange(begin, min(begin + _BLOCK, len(pairs)))
        first, second = overlap_maps(pairs.first.take(index), pairs.second.take(index), grid, shift)
        valid[index] = (np.diff(first.start) > 0) & (np.diff(second.start) > 0)
    return valid


def _disagrees(table: FeatureScores) -> Float64[np.ndarray, " feature"]:
    """1 where ``cds_retained`` lies outside the interval of CDS, 0 where inside, NaN where there is either none."""
    # Equal distances, and so intervals of no width, differ by rounding.
    outside = (table.cds_retained < table.cds_ci_lower - 1e-9) | (table.cds_retained > table.cds_ci_upper + 1e-9)
    known = ~np.isnan(table.cds_retained) & ~np.isnan(table.cds_ci_lower)
    return np.where(known, outside.astype(np.float64), np.nan)
