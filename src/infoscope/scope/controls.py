"""What CDS alone cannot tell, from the maps it is computed from (method, section 4): pairs first, then features.

The position control asks whether a map stays at one place of the crop, the null asks what unrelated pictures would
give, and the calibrated score says how much of that is left between two crops of one picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt16, UInt32

from infoscope.options import EmptyPairs, Metric
from infoscope.scope.code_noise import CodeNoise, over_draws, simulate_noise
from infoscope.scope.companions import Companions, compare_maps
from infoscope.scope.displacement import PairDisplacement, cut_off, displace_pairs
from infoscope.scope.emd import emd_pairs, partner_distances
from infoscope.scope.geometry import Geometry, patch_distances
from infoscope.scope.maps import MapPairs, Overlaps, overlap_maps
from infoscope.scope.score import FeatureScores, PairScores, feature_mean

FLOORS = (0.1, 0.25, 0.5)
"""Shares of a map's maximum under which the sensitivity table counts codes as 0; a floor of 0 gives CDS itself."""

LEAST_NULL = 0.5
"""In patches. Where unrelated pictures are closer than this, their distance is too small to calibrate a score with."""

NOISE_POINT = 1.6448536269514722
"""Standard deviations from the mean of a normal distribution to its 95 % point, above which there is *excess* (method,
section 4). A mean over k pairs is near enough to normal for it."""

# Pairs compared at a time, so that memory does not grow with the number of pairs.
_PAIRS_AT_ONCE = 16384


@dataclass(frozen=True)
class PairControls:
    """The controls of each pair of maps; every array has one entry a pair.

    Attributes:
        position: earth mover's distance between the two normalised maps on the full grid, at equal places of the crops,
            over the grid's largest distance, 0 to 1; NaN where either map has no mass.
        null: the same distance on the overlap between the first map of this pair and the second map of the feature's
            next valid pair (after the last, the first), over the overlap's largest distance; NaN for pairs that are not
            valid, and where the feature has no other valid pair.
        half_null: the same with the next valid pair among those whose rank is even or odd as this pair's is, so that
            the two halves have no image in common.
        floors: the pair's distance on the overlap when codes under a share of each map's maximum count as 0,
            ``[pair, floor]``, for the shares in `FLOORS`; NaN where not computed, and where either map has no mass
            unless such pairs count as 1.
        companions: breadth and change on the overlap.
        noise: the distance on the overlap that code noise alone would give this pair if its feature were local, over
            the overlap's largest distance; NaN for pairs that are not valid, and where code noise was not measured.
        noise_variance: the variance of that distance from draw to draw.
        displacement: how much of the mass is displaced, which the classes rest on.
    """

    position: Float64[np.ndarray, " pair"]
    null: Float64[np.ndarray, " pair"]
    half_null: Float64[np.ndarray, " pair"]
    floors: Float64[np.ndarray, "pair floor"]
    companions: Companions
    noise: Float64[np.ndarray, " pair"]
    noise_variance: Float64[np.ndarray, " pair"]
    displacement: PairDisplacement

    def take(self, index: Int64[np.ndarray, " taken"]) -> PairControls:
        """The pairs at ``index``, in that order."""
        return PairControls.from_arrays({name: values[index] for name, values in self.arrays().items()})

    def half(self, index: Int64[np.ndarray, " taken"]) -> PairControls:
        """The pairs at ``index``, all of them of even or of odd rank, with the null that stays among these."""
        half = self.take(index)
        return replace(half, null=half.half_null, displacement=self.displacement.half(index))

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, as `from_arrays` reads them."""
        return {
            "position": self.position,
            "null": self.null,
            "half_null": self.half_null,
            "floors": self.floors,
            **self.companions.arrays(),
            "noise": self.noise,
            "noise_variance": self.noise_variance,
            **self.displacement.arrays(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> PairControls:
        """The inverse of `arrays`; other entries are ignored."""
        nested = ("companions", "displacement")
        own = {field.name: arrays[field.name] for field in fields(cls) if field.name not in nested}
        companions = Companions(**{field.name: arrays[field.name] for field in fields(Companions)})
        return cls(**own, companions=companions, displacement=PairDisplacement.from_arrays(arrays))

    @classmethod
    def concatenate(cls, parts: Sequence[PairControls]) -> PairControls:
        """Several parts, one after the other; at least one."""
        arrays = [part.arrays() for part in parts]
        return cls.from_arrays({name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]})


@dataclass(frozen=True)
class FeatureControls:
    """The controls of each feature; every array has one entry a feature, NaN where there is no answer.

    Attributes:
        position_control: mean distance at equal places of the two crops, over the pairs with mass in both full maps,
            0 to 1; NaN with fewer than ``min_pairs`` of them.
        position_pairs: number of those pairs.
        cds_null: what CDS would be for unrelated pictures: the mean of the pairs' ``null``; NaN with fewer than two
            valid pairs.
        cds_calibrated: CDS over ``cds_null``, both over the pairs with mass in both overlap maps, whatever other pairs
            count as; NaN where either is NaN, and where ``cds_null`` is under half a patch.
        retained_disagrees: 1 where ``cds_retained`` lies outside the interval of CDS, 0 where inside.
        cds_even: CDS over the images of even rank (0, 2, ...); NaN with fewer than half of ``min_pairs``.
        cds_odd: CDS over the images of odd rank.
        cds_by_k: CDS over the first images alone, ``[feature, size]``, for each number of `first_sizes`; NaN where
            fewer of their pairs are valid than ``min_pairs`` in proportion.
        cds_by_floor: CDS under each of `FLOORS`, ``[feature, floor]``; NaN for features it was not computed for.
        cds_noise: mean of the pairs' ``noise``: what CDS would be for code noise alone; NaN with fewer than
            ``min_pairs`` pairs that have one.
        cds_excess: CDS over the same pairs, minus the 95 % point of ``cds_noise``; above 0 the maps move more than
            noise explains.
        entropy: mean over the valid pairs, as are the remaining fields; see `Companions`.
    """

    position_control: Float64[np.ndarray, " feature"]
    position_pairs: UInt32[np.ndarray, " feature"]
    cds_null: Float64[np.ndarray, " feature"]
    cds_calibrated: Float64[np.ndarray, " feature"]
    retained_disagrees: Float64[np.ndarray, " feature"]
    cds_even: Float64[np.ndarray, " feature"]
    cds_odd: Float64[np.ndarray, " feature"]
    cds_by_k: Float64[np.ndarray, "feature size"]
    cds_by_floor: Float64[np.ndarray, "feature floor"]
    cds_noise: Float64[np.ndarray, " feature"]
    cds_excess: Float64[np.ndarray, " feature"]
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
    top_images: int | None = None,
    noise: CodeNoise | None = None,
    seed: int = 0,
) -> PairControls:
    """The controls of every pair. All pairs of a feature must be present, since the null compares each with the next.

    Pairs are compared a bounded number at a time, so that memory beyond the pairs, their overlaps and the results stays
    bounded.

    Args:
        pairs: the maps, on the full grid, whole features.
        grid: p, patches per side.
        shift: s, patches between the crops, 0 to p-2.
        metric: ground distance between patches.
        floored: the pairs whose distances under `FLOORS` are computed; none by default.
        empty_as: as in `score_features`, for the distances under `FLOORS`.
        top_images: k; pairs of later ranks take part in ``half_null`` alone, and not in ``null``. None: all take part.
        noise: the code noise of the run; None where it was not measured.
        seed: of what is drawn to imitate it.

    Example:
        A peak glued to a corner of the crop has no score, since one overlap map is empty, but it stays at its place:

        >>> from infoscope.scope.maps import SparseMaps
        >>> maps = np.zeros((1, 14 * 14)); maps[0, 0] = 3.0
        >>> glued = SparseMaps.from_dense(maps)
        >>> pairs = MapPairs(np.zeros(1, np.uint32), np.zeros(1, np.uint16), np.zeros(1, np.uint64),
        ...                  np.array([4.0], np.float32), first=glued, second=glued)
        >>> controls = control_pairs(pairs, grid=14, shift=2)
        >>> controls.position.tolist(), controls.null.tolist()
        ([0.0], [nan])
    """
    full_distances, overlap_distances = patch_distances(grid, metric), patch_distances(grid - shift, metric)
    largest = float(overlap_distances.max())
    floored = np.zeros(len(pairs), np.bool_) if floored is None else floored
    overlaps = Overlaps.of(pairs, grid, shift, top_images)
    geometry = Geometry(grid, shift, metric)
    unknown = np.full(len(pairs), np.nan)
    alone, displaced_alone = (unknown, unknown), None
    if noise is not None:
        grounds = overlap_distances / largest, cut_off(metric, geometry.side)
        distances, displaced_alone = simulate_noise(pairs, overlaps, noise, grid, shift, grounds, seed)
        alone = over_draws(distances)
    displaced = displace_pairs(pairs, overlaps, geometry, displaced_alone)
    controls = []
    for begin in range(0, max(len(pairs), 1), _PAIRS_AT_ONCE):
        index = np.arange(begin, min(begin + _PAIRS_AT_ONCE, len(pairs)))
        full_first, full_second = pairs.first.take(index), pairs.second.take(index)
        first, second = overlaps.first.take(index), overlaps.second.take(index)
        position = np.minimum(emd_pairs(full_first, full_second, full_distances) / full_distances.max(), 1.0)
        null, half_null = (
            partner_distances(first, overlaps.second, partner[index], overlap_distances, largest)
            for partner in (overlaps.partner, overlaps.half_partner)
        )
        floors = np.full((len(index), len(FLOORS)), np.nan)
        chosen = np.flatnonzero(floored[index])
        for column, floor in enumerate(FLOORS if len(chosen) else ()):
            ours, theirs = full_first.take(chosen).floored(floor), full_second.take(chosen).floored(floor)
            ours, theirs = overlap_maps(ours, theirs, grid, shift)
            floors[chosen, column] = np.minimum(emd_pairs(ours, theirs, overlap_distances) / largest, 1.0)
            if empty_as == "one":
                one_empty = (np.diff(ours.start) > 0) ^ (np.diff(theirs.start) > 0)
                floors[chosen[one_empty], column] = 1.0
        companions = compare_maps(first, second, grid - shift, overlap_distances)
        mean, variance = alone[0][index], alone[1][index]
        controls.append(
            PairControls(position, null, half_null, floors, companions, mean, variance, displaced.take(index))
        )
    return PairControls.concatenate(controls)


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
        table: their scores by feature, from `score_features`.
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
    sizes = first_sizes(top_images)
    by_k = [mean(emd, valid & (rank < size), -(-size * min_pairs // top_images)) for size in sizes]
    floors = [np.minimum(controls.floors[:, column], 1.0) for column in range(len(FLOORS))]
    noisy = ~np.isnan(controls.noise) & ~np.isnan(scores.emd)
    pairs = np.bincount(feature[noisy], minlength=n_features)
    cds_noise = mean(controls.noise, noisy, min_pairs)
    variance = mean(controls.noise_variance, noisy, min_pairs) / np.maximum(pairs, 1)
    companions = {name: mean(values, both & ~np.isnan(values)) for name, values in controls.companions.arrays().items()}
    return FeatureControls(
        position_control=mean(controls.position, placed, min_pairs),
        position_pairs=np.bincount(feature[placed], minlength=n_features).astype(np.uint32),
        cds_null=null,
        # The null is only over pairs with mass in both maps, so the score that it calibrates must be too.
        cds_calibrated=calibrated(mean(scores.emd, ~np.isnan(scores.emd), min_pairs), null, largest),
        retained_disagrees=_disagrees(table),
        cds_even=mean(emd, valid & (rank % 2 == 0), half),
        cds_odd=mean(emd, valid & (rank % 2 == 1), half),
        cds_by_k=np.stack(by_k, axis=1),
        cds_by_floor=np.stack([mean(values, ~np.isnan(values), min_pairs) for values in floors], axis=1),
        cds_noise=cds_noise,
        cds_excess=mean(scores.emd, noisy, min_pairs) - (cds_noise + NOISE_POINT * np.sqrt(variance)),
        **companions,
    )


def calibrated(
    cds: Float64[np.ndarray, " feature"], null: Float64[np.ndarray, " feature"], largest: float
) -> Float64[np.ndarray, " feature"]:
    """CDS over what unrelated pictures give; NaN where those are less than half a patch apart (method, section 4).

    Args:
        cds: scores, as shares of D.
        null: their nulls, as shares of D.
        largest: D, in patches.

    Example:
        >>> calibrated(np.array([0.1, 0.1]), np.array([0.4, 0.02]), largest=18.0)
        array([0.25,  nan])
    """
    usable = null * largest >= LEAST_NULL
    score: Float64[np.ndarray, " feature"] = np.divide(cds, null, out=np.full_like(cds, np.nan), where=usable)
    return score


def first_sizes(top_images: int) -> list[int]:
    """How many of the first images each score of ``cds_by_k`` is over: powers of two below k, and k.

    Example:
        >>> first_sizes(16), first_sizes(10)
        ([1, 2, 4, 8, 16], [1, 2, 4, 8, 10])
    """
    return [2**power for power in range(32) if 2**power < top_images] + [top_images]


def _disagrees(table: FeatureScores) -> Float64[np.ndarray, " feature"]:
    """1 where ``cds_retained`` lies outside the interval of CDS, 0 where inside, NaN where either is missing."""
    # Where all distances are equal the interval has no width, and rounding alone would put the score outside it.
    outside = (table.cds_retained < table.cds_ci_lower - 1e-9) | (table.cds_retained > table.cds_ci_upper + 1e-9)
    known = ~np.isnan(table.cds_retained) & ~np.isnan(table.cds_ci_lower)
    return np.where(known, outside.astype(np.float64), np.nan)
