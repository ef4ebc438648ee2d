"""Code noise: how codes come, go and change where nothing but noise differs, and the distance that this alone makes.

Two crops cannot tell a feature that drops out and fires elsewhere by chance from one that depends on context. So one
crop is encoded twice, the second time with pixel noise, and what became of its codes (`infoscope.scope.noise_counts`)
is turned into chances here. `simulate_noise` then asks of every pair what its maps would show if the feature were
local: a map against a copy of itself whose codes were lost, changed and joined by new ones at these chances. Both the
clean and the noisy encoding are readings of one map, as the two crops of a local feature are, so the step from one to
the other is the step from crop to crop, and no map behind the readings has to be guessed (method, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt16, UInt32, UInt64

from infoscope.runtime.json_values import to_json
from infoscope.runtime.typed import Above0, AtLeast0, Count, Share, from_json
from infoscope.scope.code_noise_kernel import DRIFT_STEPS, DRIFTS, NEIGHBOURS, PEAKS, PLACES, VALUES, noisy_copies
from infoscope.scope.emd import emd_pairs
from infoscope.scope.maps import MapPairs, Overlaps, SparseMaps
from infoscope.scope.noise_counts import NoiseCounts

FORMAT_VERSION = 1
# Our choice: the median of shares of few codes is 0 for a chance that is not (with 50, for chances under 0.014), and
# fewer features than 8 have no median worth the name. Patches without a code get one seldom (2 in 100 next to one, 1 in
# 1,000 far off, on a DINOv2), so a feature needs more of them.
LEAST_CODES, LEAST_PATCHES, LEAST_FEATURES = 50, 2000, 8
# Our choice: a feature's own chances lean on the typical ones as on so many codes more. On a DINOv2 ViT-S/14 with 2,048
# features, the median feature has 250 codes on 256 images.
OWN_CODES, OWN_PATCHES = 25, 200
# Our choice: the 16th and 84th percentiles of so many are known to within 15 % of their distance.
LEAST_DRIFTS = 100
# Our choice: the mean over a feature's k pairs then adds an eighth to the variance that the pairs have themselves.
DRAWS = 8
# Pairs whose copies are dense at a time.
_PAIRS_AT_ONCE = 1024
# Half of the distance between these is the standard deviation of a normal distribution.
_LOWER, _UPPER = 0.1586552539314571, 0.8413447460685429

Basis = Literal["token", "threshold", "maximum"]


@dataclass(frozen=True)
class Rates:
    """A chance by bin.

    Attributes:
        count: how many codes, or patches, were at risk in each bin, of all counted features.
        pooled: the share of them to which it happened; NaN where none was at risk.
        typical: the median of the features' own shares, over those with enough at risk; ``pooled`` where they are too
            few. Features whose codes jump under noise pull ``pooled`` up, and this not while they are a minority.
    """

    count: tuple[Count, ...]
    pooled: tuple[Share, ...]
    typical: tuple[Share, ...]


@dataclass(frozen=True)
class CodeNoise:
    """What pixel noise does to codes, as chances.

    Bins are those of `infoscope.scope.noise_counts.NoiseCounts`. The simulation uses the ``typical`` chances by value.

    Attributes:
        format_version: of the file that holds it.
        images: views that were encoded twice.
        features: features whose codes were counted.
        pixel_noise: standard deviation of the noise on 8-bit pixels.
        basis: what ``margin`` is over: the smallest code of the *token*, the feature's own *threshold*, or, where codes
            have none, the feature's *maximum* in the run.
        scale: what codes are divided by to get values: one number for all features, or one each.
        lost_by_margin: the chance that a clean code has no noisy one, by its margin.
        new_by_margin: the chance that a noisy code has no clean one, by its margin.
        lost: the chance that a clean code has no noisy one, by its value.
        spread: standard deviation of the logarithm of noisy over clean code, by octave of the clean value.
        appears_by_place: the chance that a patch without a code gets one, by where it lies to the map's codes.
        appears: the same by octave of the map's largest value, then by place.
        born: the shares of the values of codes that appear; a feature counts once, however many of its codes do.
        appeared: codes that appeared in maps that had a code, by distance from the nearest: 1 (next to it, corners
            included), 2, 3, ... patches.
        alone: codes that appeared in maps without any.
        stays: for every feature of the dictionary, how many of its codes stay, over how many would at the chances
            ``lost``; leaning on 1 where it has few codes.
        beside: for every feature, the chance that a patch without a code next to one gets one, leaning on the typical
            feature's where it has few.
        apart: the same of the other patches of its maps.
        usual_beside: the typical feature's.
        usual_apart: likewise.

    Example:
        >>> still = CodeNoise.none()
        >>> still.appears[0][0], CodeNoise.from_json(still.to_json()).to_json() == still.to_json()
        (0.0, True)
    """

    format_version: int
    images: Count
    features: Count
    pixel_noise: AtLeast0
    basis: Basis
    scale: tuple[Above0, ...]
    lost_by_margin: Rates
    new_by_margin: Rates
    lost: Rates
    spread: tuple[AtLeast0, ...]
    appears_by_place: Rates
    appears: tuple[tuple[Share, ...], ...]
    born: tuple[Share, ...]
    appeared: tuple[Count, ...]
    alone: Count
    stays: tuple[AtLeast0, ...] = ()
    beside: tuple[Share, ...] = ()
    apart: tuple[Share, ...] = ()
    usual_beside: Share = 0.0
    usual_apart: Share = 0.0

    @classmethod
    def of_counts(cls, counts: NoiseCounts, scale: tuple[float, ...], basis: Basis, pixel_noise: float) -> CodeNoise:
        """Chances from counts.

        Args:
            counts: of all images.
            scale: what codes were divided by.
            basis: what margins are over.
            pixel_noise: standard deviation of the noise, in steps of 8-bit pixels.
        """
        at_risk, came = counts.cells, counts.appeared
        lost = _rates(counts.codes, counts.lost, LEAST_CODES)
        by_place = _rates(at_risk.sum(1), came.sum(1), LEAST_PATCHES)
        usual = _filled(np.array(by_place.typical))
        appears = []
        for peak in range(PEAKS):
            own, enough = _typical(at_risk[:, peak], came[:, peak], LEAST_PATCHES)
            appears.append(tuple(np.where(enough, own, usual).tolist()))
        votes = counts.born[counts.born.sum(1) > 0]
        shares = (votes / votes.sum(1, keepdims=True)).mean(0) if len(votes) else np.zeros(VALUES)
        return cls(
            format_version=FORMAT_VERSION,
            images=int(counts.images[0]),
            features=len(counts.alone),
            pixel_noise=pixel_noise,
            basis=basis,
            scale=scale,
            lost_by_margin=_rates(counts.margin_codes, counts.margin_lost, LEAST_CODES),
            new_by_margin=_rates(counts.margin_noisy, counts.margin_born, LEAST_CODES),
            lost=lost,
            spread=tuple(_filled(_spreads(counts.drift)).tolist()),
            appears_by_place=by_place,
            appears=tuple(appears),
            born=tuple(shares.tolist()),
            appeared=(int(came[..., :NEIGHBOURS].sum()), *came[..., NEIGHBOURS:].sum((0, 1)).tolist()),
            alone=int(counts.alone.sum()),
            **_own_rates(counts, lost),
        )

    @classmethod
    def none(cls) -> CodeNoise:
        """No noise at all."""
        return replace(cls.of_counts(NoiseCounts.empty(1), (1.0,), "token", 0.0), stays=(), beside=(), apart=())

    def scale_of(self, feature: UInt32[np.ndarray, " pair"]) -> Float64[np.ndarray, " pair"]:
        """What the codes of each pair's feature are divided by."""
        scale = np.array(self.scale)
        return np.full(len(feature), scale[0]) if len(scale) == 1 else scale[feature]

    def own_rates(
        self, feature: UInt32[np.ndarray, " pair"]
    ) -> tuple[Float64[np.ndarray, " pair"], Float64[np.ndarray, "pair 2"], Float64[np.ndarray, "pair 2"]]:
        """How each pair's feature differs from a typical one.

        Returns:
            What the chance that its codes stay is multiplied with; and, next to a code and apart from all, what the
            chance that a patch without a code gets one is multiplied with, and what is added to it.
        """
        gain, extra = np.ones((len(feature), 2)), np.zeros((len(feature), 2))
        if not self.stays:
            return np.ones(len(feature)), gain, extra
        for place, (own, usual) in enumerate(((self.beside, self.usual_beside), (self.apart, self.usual_apart))):
            rate = np.array(own)[feature]
            if usual:
                gain[:, place] = np.minimum(rate / usual, 1.0)
            extra[:, place] = np.maximum(rate - usual, 0.0)
        return np.array(self.stays)[feature], gain, extra

    def to_json(self) -> dict[str, Any]:
        """What ``code_noise.json`` holds."""
        document: dict[str, Any] = to_json(self)
        return document

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CodeNoise:
        """The inverse of `to_json`.

        Raises:
            ValueError: it is something else; the message names the entry.
        """
        noise = from_json(cls, value, undefined=True)
        lengths = {len(noise.lost.typical), len(noise.born)}
        rows = {len(row) for row in noise.appears}
        if lengths != {VALUES} or {len(noise.spread), len(noise.appears)} != {PEAKS} or rows != {PLACES}:
            raise ValueError("its curves have another number of bins")
        # Null stands for a chance that is not known, which these are not.
        if len({len(noise.stays), len(noise.beside), len(noise.apart)}) != 1:
            raise ValueError("its rates of features are of different numbers of features")
        if not np.isfinite(
            [
                *noise.stays,
                *noise.beside,
                *noise.apart,
                *noise.scale,
                *noise.spread,
                *noise.born,
                *np.ravel(noise.appears),
            ]
        ).all():
            raise ValueError("a scale, a spread or a chance is null")
        return noise


def simulate_noise(
    pairs: MapPairs,
    overlaps: Overlaps,
    noise: CodeNoise,
    grid: int,
    shift: int,
    grounds: Sequence[Float64[np.ndarray, "cell cell"]],
    seed: int = 0,
    draws: int = DRAWS,
) -> list[Float64[np.ndarray, "pair draw"]]:
    """What the pairs' distances would be if their features were local and nothing but code noise differed.

    Half of the draws copy the first crop's map, half the second's. A pair's random numbers depend on the seed, its
    feature and its rank alone.

    Args:
        pairs: the maps, on the full grid.
        overlaps: what they show of the overlap.
        noise: the chances.
        grid: p, patches per side.
        shift: s, patches between the crops.
        grounds: ground distances between the patches of the overlap, each with 1 as its largest; the same copies are
            compared under all of them.
        seed: of the draws.
        draws: copies of each pair, an even number of at least 2.

    Returns:
        For each ground distance, the distances between a pair's maps and their copies on the overlap, 0 to 1; NaN where
        a copy has no mass there, and for pairs without mass on the overlap in either crop.

    Example:
        >>> maps = SparseMaps.from_dense(np.eye(1, 16, 5))
        >>> pairs = MapPairs(np.zeros(1, np.uint32), np.zeros(1, np.uint16), np.zeros(1, np.uint64),
        ...                  np.array([1.0], np.float32), first=maps, second=maps)
        >>> overlaps = Overlaps.of(pairs, grid=4, shift=0)
        >>> (distances,) = simulate_noise(pairs, overlaps, CodeNoise.none(), 4, 0, [1 - np.eye(16)], draws=2)
        >>> distances.tolist()
        [[0.0, 0.0]]
    """
    if draws < 2 or draws % 2:
        raise ValueError(f"{draws} draws do not halve; give an even number")
    tables = _Tables.of(noise)
    side = grid - shift
    scale, rates = noise.scale_of(pairs.feature), noise.own_rates(pairs.feature)
    distances = [np.full((len(pairs), draws), np.nan) for _ in grounds]
    both = np.flatnonzero((np.diff(overlaps.first.start) > 0) & (np.diff(overlaps.second.start) > 0))
    crops = (pairs.first, overlaps.first, shift), (pairs.second, overlaps.second, 0)
    for begin in range(0, len(both), _PAIRS_AT_ONCE):
        own = both[begin : begin + _PAIRS_AT_ONCE]
        own_rates = rates[0][own], rates[1][own], rates[2][own]
        for crop, (full, overlap, top) in enumerate(crops):
            key = pair_keys(seed, pairs.feature[own], pairs.rank[own], crop)
            copies = tables.copies(full.take(own), scale[own], key, grid, top, side, draws // 2, own_rates)
            originals = overlap.take(np.repeat(own, draws // 2))
            drawn = slice(crop * (draws // 2), (crop + 1) * (draws // 2))
            for ground, found in zip(grounds, distances, strict=True):
                emd = np.minimum(emd_pairs(originals, copies, ground), 1.0)
                found[own, drawn] = emd.reshape(len(own), -1)
    return distances


def over_draws(
    distances: Float64[np.ndarray, "pair draw"],
) -> tuple[Float64[np.ndarray, " pair"], Float64[np.ndarray, " pair"]]:
    """Mean and variance of each pair's distances over the draws; NaN where fewer than two are known.

    Example:
        >>> mean, variance = over_draws(np.array([[0.2, 0.4, np.nan], [0.1, np.nan, np.nan]]))
        >>> mean.round(3).tolist(), variance.round(3).tolist()
        ([0.3, nan], [0.02, nan])
    """
    known = ~np.isnan(distances)
    count = known.sum(1)
    mean = np.where(known, distances, 0.0).sum(1) / np.maximum(count, 1)
    squares = np.where(known, (distances - mean[:, None]) ** 2, 0.0).sum(1)
    variance = squares / np.maximum(count - 1, 1)
    return np.where(count >= 2, mean, np.nan), np.where(count >= 2, variance, np.nan)


def pair_keys(
    seed: int, feature: UInt32[np.ndarray, " pair"], rank: UInt16[np.ndarray, " pair"], crop: int
) -> UInt64[np.ndarray, " pair"]:
    """Where the random numbers of each pair's copies begin: 64 bits that depend on these four numbers alone.

    Example:
        >>> len(set(pair_keys(0, np.array([1, 2, 2], np.uint32), np.array([0, 0, 1], np.uint16), 0).tolist()))
        3
    """
    key = np.full(len(feature), seed, np.uint64)
    for part in (feature.astype(np.uint64), rank.astype(np.uint64), np.full(len(feature), crop, np.uint64)):
        # One step of splitmix64 for each number.
        key = (key + part + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key = key ^ (key >> np.uint64(31))
    return key


@dataclass(frozen=True)
class _Tables:
    """The chances as the kernel takes them."""

    lost: Float64[np.ndarray, " value"]
    spread: Float64[np.ndarray, " peak"]
    appears: Float64[np.ndarray, "peak place"]
    born: Float64[np.ndarray, " value"]

    @classmethod
    def of(cls, noise: CodeNoise) -> _Tables:
        return cls(
            _filled(np.array(noise.lost.typical)),
            np.array(noise.spread),
            np.array(noise.appears),
            np.cumsum(noise.born),
        )

    def copies(
        self,
        maps: SparseMaps,
        scale: Float64[np.ndarray, " map"],
        key: UInt64[np.ndarray, " map"],
        grid: int,
        top: int,
        side: int,
        draws: int,
        own_rates: tuple[Float64[np.ndarray, " map"], Float64[np.ndarray, "map 2"], Float64[np.ndarray, "map 2"]],
    ) -> SparseMaps:
        """Noisy copies of maps on a window, the draws of each map one after the other."""
        out = np.zeros((len(maps), draws, side * side), np.float32)
        value = maps.value.astype(np.float64)
        where = (grid, top, side)
        chances = (self.lost, self.spread, self.appears, self.born)
        noisy_copies(maps.start, maps.patch, value, scale, key, *where, *chances, *own_rates, out)
        return SparseMaps.from_dense(out.reshape(-1, side * side))


def _own_rates(counts: NoiseCounts, lost: Rates) -> dict[str, Any]:
    """The entries of `CodeNoise` that say how each feature differs from a typical one."""
    stay = 1.0 - np.nan_to_num(_filled(np.array(lost.typical)))
    weight = counts.codes.sum(0).reshape(PEAKS, -1)
    # The chance to stay that the codes' values give, as a mean over each octave.
    weight = np.where(weight.sum(1, keepdims=True) > 0, weight, 1)
    by_octave = (stay.reshape(PEAKS, -1) * weight).sum(1) / weight.sum(1)
    expected = counts.own_codes @ by_octave
    stayed = counts.own_codes.sum(1) - counts.own_lost
    stays = (stayed + OWN_CODES) / (expected + OWN_CODES)
    usual, own = [], np.zeros(counts.own_gaps.shape)
    for place in range(2):
        gaps, came = counts.own_gaps[:, place], counts.own_came[:, place]
        enough = gaps >= LEAST_PATCHES // 10
        typical = float(came.sum() / max(int(gaps.sum()), 1))
        if enough.sum() >= LEAST_FEATURES:
            typical = float(np.median(came[enough] / gaps[enough]))
        own[:, place] = (came + OWN_PATCHES * typical) / (gaps + OWN_PATCHES)
        usual.append(typical)
    return {
        "stays": _short(stays),
        "beside": _short(own[:, 0]),
        "apart": _short(own[:, 1]),
        "usual_beside": usual[0],
        "usual_apart": usual[1],
    }


def _short(values: Float64[np.ndarray, " feature"]) -> tuple[float, ...]:
    """Four digits each, since a file of every feature's would be long."""
    return tuple(float(f"{value:.4g}") for value in values)


def _rates(at_risk: Int64[np.ndarray, "feature bin"], happened: Int64[np.ndarray, "feature bin"], least: int) -> Rates:
    count = at_risk.sum(0)
    pooled = np.where(count > 0, happened.sum(0) / np.maximum(count, 1), np.nan)
    typical, enough = _typical(at_risk, happened, least)
    return Rates(tuple(count.tolist()), tuple(pooled.tolist()), tuple(np.where(enough, typical, pooled).tolist()))


def _typical(
    at_risk: Int64[np.ndarray, "feature bin"], happened: Int64[np.ndarray, "feature bin"], least: int
) -> tuple[Float64[np.ndarray, " bin"], Bool[np.ndarray, " bin"]]:
    """The median of the features' shares in each bin, and whether enough features have one."""
    known = at_risk >= least
    typical = np.full(at_risk.shape[1], np.nan)
    enough = known.sum(0) >= LEAST_FEATURES
    for bin in np.flatnonzero(enough):
        rows = known[:, bin]
        typical[bin] = np.median(happened[rows, bin] / at_risk[rows, bin])
    return typical, enough


def _spreads(drift: Int64[np.ndarray, "peak change"]) -> Float64[np.ndarray, " peak"]:
    """Standard deviations of the logarithm, from percentiles, so that a few codes that change much do not make them."""
    octaves = (np.arange(DRIFTS) - DRIFTS // 2) / DRIFT_STEPS
    spreads = np.full(len(drift), np.nan)
    for peak in np.flatnonzero(drift.sum(1) >= LEAST_DRIFTS):
        below = np.cumsum(drift[peak]) / drift[peak].sum()
        lower, upper = (octaves[np.searchsorted(below, share)] for share in (_LOWER, _UPPER))
        spreads[peak] = math.log(2.0) * (upper - lower) / 2
    return spreads


def _filled(values: Float64[np.ndarray, " bin"]) -> Float64[np.ndarray, " bin"]:
    """The values with each NaN replaced by the nearest other one, the lower of two; 0 where there is none."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return np.zeros_like(values)
    nearest = np.abs(np.subtract.outer(np.arange(len(values)), known)).argmin(1)
    filled: Float64[np.ndarray, " bin"] = values[known[nearest]]
    return filled
