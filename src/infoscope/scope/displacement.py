"""How much of a map's mass is displaced: against the pixels, against the crop, between pictures, by noise alone.

CDS says how *far* mass moves, and one stray code at the other end of the picture weighs as much as a map that moves by
a patch. Classes ask *how much* of the mass is no longer where it was. The displaced share answers that: the earth
mover's distance under a ground distance that is cut off at two patches, over two patches. It is 0 where the maps are
equal and 1 where all mass is at least two patches from where it was; mass that is one patch off counts half. Cut off,
the distance is still a metric (Pele and Werman 2009), so the same exact solver computes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt32

from infoscope.scope.classes import Moves
from infoscope.scope.code_noise import over_draws
from infoscope.scope.emd import emd_pairs, partner_distances
from infoscope.scope.geometry import Geometry, patch_distances
from infoscope.scope.maps import MapPairs, Overlaps
from infoscope.scope.score import feature_mean

CUT_OFF = 2.0
"""Patches from which mass counts as displaced in full. Our choice: far enough that a map which wavers by a patch is not
called displaced, and less than the movement of the pixels, 2.8 patches at a shift of 2, so that staying at a place of
the crop is. On a DINOv2 ViT-S/14, the displaced share over that of unrelated pictures has a rank correlation of 0.88
between two pools of 1,000 photographs, and CDS over its null of 0.77."""

LEAST_KEPT = 0.2
"""A map keeps to its pixels, or to its place in the crop, where it keeps at least this part of what unrelated pictures
displace. Our choice, from the calibrated score of 0.8 that is asked of global features."""
NEARER = 0.8
"""Where a pair is both, it follows or stays if the smaller of its two displaced shares is at most this part of the
larger one, and is still otherwise. As for the older rules."""
STILL = 0.2
"""A pair that neither follows nor stays is still where neither displaced share is larger than this. Our choice: even
maps with an error of 0.3 of their peak have 0.2."""
LEAST_ROOM = 0.2
"""Where what unrelated pictures displace exceeds what noise displaces by less than this part of it, noise hides whether
a map follows. Our choice: as much as a map must keep at least to be said to follow."""

_PAIRS_AT_ONCE = 16384


@dataclass(frozen=True)
class PairDisplacement:
    """Displaced shares of each pair, 0 to 1; every array is ``[pair]``.

    Attributes:
        pixels: at equal pixels of the overlap; NaN where either overlap map has no mass.
        place: at equal places of the two crops, on the full grid; NaN where either map has no mass.
        unrelated: between the first overlap map and the second of the feature's next valid pair, cyclic; NaN without.
        half_unrelated: the same within the pairs of even or of odd rank.
        noise: ``[pair, draw]``, what noise alone would displace if the feature were local, for each noisy copy of an
            overlap map; 0 where noise was not measured, NaN for copies that keep no mass.
    """

    pixels: Float64[np.ndarray, " pair"]
    place: Float64[np.ndarray, " pair"]
    unrelated: Float64[np.ndarray, " pair"]
    half_unrelated: Float64[np.ndarray, " pair"]
    noise: Float64[np.ndarray, "pair draw"]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, with a prefix, as `from_arrays` reads them."""
        return {f"displaced_{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> PairDisplacement:
        """The inverse of `arrays`; other entries are ignored."""
        return cls(**{field.name: arrays[f"displaced_{field.name}"] for field in fields(cls)})

    @classmethod
    def concatenate(cls, parts: Sequence[PairDisplacement]) -> PairDisplacement:
        """Several parts, one after the other; at least one."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def take(self, index: Int64[np.ndarray, " taken"]) -> PairDisplacement:
        """The pairs at ``index``, in that order."""
        return PairDisplacement(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def half(self, index: Int64[np.ndarray, " taken"]) -> PairDisplacement:
        """The pairs at ``index``, all of even or of odd rank, compared with unrelated pictures among these alone."""
        half = self.take(index)
        return replace(half, unrelated=half.half_unrelated)


def displace_pairs(
    pairs: MapPairs,
    overlaps: Overlaps,
    geometry: Geometry,
    noise: Float64[np.ndarray, "pair draw"] | None = None,
) -> PairDisplacement:
    """The displaced shares of every pair. All pairs of a feature must be present, as for the null.

    Args:
        pairs: the maps, on the full grid, whole features.
        overlaps: what they show of the overlap, and which are compared.
        geometry: the grid and the shift.
        noise: what noise displaces, draw by draw; None where it was not measured.

    Example:
        A peak that stays at its place in the crop is displaced in full against the pixels:

        >>> from infoscope.scope.maps import SparseMaps
        >>> maps = SparseMaps.from_dense(np.eye(1, 100, 55))
        >>> pairs = MapPairs(np.zeros(1, np.uint32), np.zeros(1, np.uint16), np.zeros(1, np.uint64),
        ...                  np.ones(1, np.float32), maps, maps)
        >>> displaced = displace_pairs(pairs, Overlaps.of(pairs, grid=10, shift=2), Geometry(grid=10, shift=2))
        >>> displaced.pixels.tolist(), displaced.place.tolist(), displaced.unrelated.tolist()
        ([1.0], [0.0], [nan])
    """
    full = cut_off(geometry.metric, geometry.grid)
    overlap = cut_off(geometry.metric, geometry.side)
    first, second = overlaps.first, overlaps.second
    # Two copies, since of one alone no mean is taken (`over_draws`).
    none = np.zeros((len(pairs), 2))
    parts = []
    for begin in range(0, max(len(pairs), 1), _PAIRS_AT_ONCE):
        index = np.arange(begin, min(begin + _PAIRS_AT_ONCE, len(pairs)))
        ours = first.take(index)
        parts.append(
            PairDisplacement(
                pixels=np.minimum(emd_pairs(ours, second.take(index), overlap), 1.0),
                place=np.minimum(emd_pairs(pairs.first.take(index), pairs.second.take(index), full), 1.0),
                unrelated=partner_distances(ours, second, overlaps.partner[index], overlap),
                half_unrelated=partner_distances(ours, second, overlaps.half_partner[index], overlap),
                noise=none[index] if noise is None else noise[index],
            )
        )
    return PairDisplacement.concatenate(parts)


def cut_off(metric: str, side: int) -> Float64[np.ndarray, "cell cell"]:
    """Ground distances on a square grid, cut off at `CUT_OFF` patches and scaled to 1.

    Example:
        >>> cut_off("euclidean", 3)[0].round(3).tolist()
        [0.0, 0.5, 1.0, 0.5, 0.707, 1.0, 1.0, 1.0, 1.0]
    """
    distances = patch_distances(side, "l1" if metric == "l1" else "euclidean")
    shares: Float64[np.ndarray, "cell cell"] = np.minimum(distances, CUT_OFF) / CUT_OFF
    return shares


@dataclass(frozen=True)
class FeatureDisplacement:
    """Displaced shares of each feature, and how its pairs moved by them; every array is ``[feature]``.

    Attributes:
        displaced: mean displaced share at equal pixels, over the valid pairs that have an unrelated one; NaN with fewer
            than two. The next three are over the same pairs.
        displaced_place: at equal places of the crops, over the pairs with mass in both full maps.
        displaced_null: what unrelated pictures displace.
        displaced_noise: what noise alone would displace.
        displacement: (displaced - displaced_noise) / (displaced_null - displaced_noise): 0 where noise explains what is
            displaced, 1 where no more is kept than between unrelated pictures; NaN where noise leaves no room.
        displacement_error: its standard error over pairs.
        displacement_following: the same of the pairs that follow alone, from what noise displaces while a pair follows;
            NaN with fewer than two such pairs too.
        displacement_following_error: its standard error.
        noise_jumps: the share of pairs that would jump by noise alone if the feature were local.
        moves: how the pairs moved.
    """

    displaced: Float64[np.ndarray, " feature"]
    displaced_place: Float64[np.ndarray, " feature"]
    displaced_null: Float64[np.ndarray, " feature"]
    displaced_noise: Float64[np.ndarray, " feature"]
    displacement: Float64[np.ndarray, " feature"]
    displacement_error: Float64[np.ndarray, " feature"]
    displacement_following: Float64[np.ndarray, " feature"]
    displacement_following_error: Float64[np.ndarray, " feature"]
    noise_jumps: Float64[np.ndarray, " feature"]
    moves: Moves

    @property
    def hidden(self) -> Bool[np.ndarray, " feature"]:
        """Whether noise displaces so much that a map which follows can hardly be told from one that does not."""
        return _hidden(self.displaced_null, self.displaced_noise)


# Our choice: the standard error of few pairs leans on that of all features as if four more pairs had that one.
_PRIOR_PAIRS = 4


def displace_features(
    shares: PairDisplacement,
    vanished: Bool[np.ndarray, " pair"],
    feature: UInt32[np.ndarray, " pair"],
    n_features: int,
    away: Float64[np.ndarray, " feature"],
) -> FeatureDisplacement:
    """Gather the displaced shares by feature, and sort each feature's pairs by how they moved.

    Args:
        shares: of all pairs.
        vanished: pairs with mass on the overlap in one crop, and none anywhere in the other.
        feature: the feature of each pair.
        n_features: features of the dictionary.
        away: share of each feature's pairs that are far from place and pixels; see `Moves`.
    """
    pixels, unrelated = shares.pixels, shares.unrelated

    def mean(values: Float64[np.ndarray, " pair"], pairs: Bool[np.ndarray, " pair"], least: int = 2) -> np.ndarray:
        return feature_mean(np.where(pairs, values, 0.0), pairs, feature, n_features, least=least)

    over, apart = ~np.isnan(pixels) & ~np.isnan(unrelated), ~np.isnan(unrelated)
    null = mean(unrelated, over)
    of_noise, _ = over_draws(shares.noise)
    noise = mean(of_noise, over & ~np.isnan(of_noise), least=1)
    # Pairs whose copies lose all mass have no noise of their own; they get that of the feature's others.
    of_pair = np.where(np.isnan(of_noise), noise[feature], of_noise)
    hidden = _hidden(null, noise)

    # Unrelated pictures are known for pairs whose own overlap is empty too.
    border = (1.0 - LEAST_KEPT) * mean(unrelated, apart)
    border = np.where(np.isnan(border), 1.0 - LEAST_KEPT, border)[feature]
    kinds = _sort_pairs(shares, vanished, border)

    # What a pair that follows displaces is within the border, so it is held against the copies that are within it too.
    within = shares.noise <= border[:, None]
    known = within.any(1)
    copies = np.where(within, shares.noise, 0.0).sum(1) / np.maximum(within.sum(1), 1)
    of_followers = mean(copies, known & kinds.following, least=1)
    of_followers = np.where(np.isnan(of_followers), mean(copies, known, least=1), of_followers)[feature]
    # Where noise leaves no copy within it, a pair that follows displaces no more than noise does.
    copies = np.where(known, copies, np.where(np.isnan(of_followers), border, of_followers))
    # A copy that keeps no mass on the overlap would have vanished from it.
    seen = ~np.isnan(pixels)
    beyond = ((shares.noise > border[:, None]) | np.isnan(shares.noise)).mean(1)

    whole = _beyond_noise(pixels, of_pair, unrelated, over, feature, hidden)
    partly = _beyond_noise(pixels, copies, null[feature], kinds.following & ~np.isnan(null[feature]), feature, hidden)
    return FeatureDisplacement(
        displaced=mean(pixels, over),
        displaced_place=mean(shares.place, ~np.isnan(shares.place)),
        displaced_null=null,
        displaced_noise=noise,
        displacement=whole[0],
        displacement_error=whole[1],
        displacement_following=partly[0],
        displacement_following_error=partly[1],
        noise_jumps=mean(beyond, seen, least=1),
        moves=kinds.shares(vanished, feature, n_features, away),
    )


def _hidden(
    null: Float64[np.ndarray, " feature"], noise: Float64[np.ndarray, " feature"]
) -> Bool[np.ndarray, " feature"]:
    hidden: Bool[np.ndarray, " feature"] = ~(null - noise > LEAST_ROOM * null)
    return hidden


def _beyond_noise(
    pixels: Float64[np.ndarray, " pair"],
    noise: Float64[np.ndarray, " pair"],
    unrelated: Float64[np.ndarray, " pair"],
    pairs: Bool[np.ndarray, " pair"],
    feature: UInt32[np.ndarray, " pair"],
    hidden: Bool[np.ndarray, " feature"],
) -> tuple[Float64[np.ndarray, " feature"], Float64[np.ndarray, " feature"]]:
    """(pixels - noise) / (unrelated - noise), of means over some pairs of each feature, and its standard error.

    NaN with fewer than two of these pairs, and where noise hides it.
    """

    def mean(values: Float64[np.ndarray, " pair"]) -> Float64[np.ndarray, " feature"]:
        return feature_mean(np.where(pairs, values, 0.0), pairs, feature, len(hidden), least=2)

    room = mean(unrelated - noise)
    share = np.divide(mean(pixels - noise), room, out=np.full(len(hidden), np.nan), where=~hidden & (room > 0))
    counts = np.bincount(feature[pairs], minlength=len(hidden))
    residual = (pixels - noise) - share[feature] * (unrelated - noise)
    with np.errstate(invalid="ignore", divide="ignore"):
        square = mean(residual**2) / room**2 * counts / np.maximum(counts - 1, 1)
        enough = (counts >= _PRIOR_PAIRS) & ~np.isnan(square)
        usual = float(np.median(square[enough])) if enough.any() else 0.0
        pooled = ((counts - 1) * square + _PRIOR_PAIRS * usual) / (counts - 1 + _PRIOR_PAIRS)
        error = np.maximum(np.sqrt(pooled / np.maximum(counts, 1)), 1e-3)
    return share, np.where(np.isnan(share), np.nan, error)


@dataclass(frozen=True)
class _Kinds:
    """How each pair moved, as far as it can be judged."""

    judged: Bool[np.ndarray, " pair"]
    following: Bool[np.ndarray, " pair"]
    staying: Bool[np.ndarray, " pair"]
    still: Bool[np.ndarray, " pair"]

    def shares(
        self,
        vanished: Bool[np.ndarray, " pair"],
        feature: UInt32[np.ndarray, " pair"],
        n_features: int,
        away: Float64[np.ndarray, " feature"],
    ) -> Moves:
        def share(pairs: Bool[np.ndarray, " pair"]) -> Float64[np.ndarray, " feature"]:
            return feature_mean(pairs.astype(np.float64), self.judged, feature, n_features)

        return Moves(
            following=share(self.following),
            staying=share(self.staying),
            still=share(self.still),
            jumping=share(self.judged & ~self.following & ~self.staying & ~self.still),
            away=away,
            vanished=share(vanished),
            judged=np.bincount(feature[self.judged], minlength=n_features).astype(np.uint32),
        )


def _sort_pairs(
    shares: PairDisplacement, vanished: Bool[np.ndarray, " pair"], border: Float64[np.ndarray, " pair"]
) -> _Kinds:
    """Whether each pair follows, stays or keeps still; the other judged ones jump."""
    seen, known = ~np.isnan(shares.pixels), ~np.isnan(shares.place)
    # Mass that left the overlap is elsewhere in the crop, so at least not on its pixels.
    pixels, place = np.where(seen, shares.pixels, 1.0), np.where(known, shares.place, 1.0)
    with_pixels, at_place = seen & known & (pixels <= border), known & (place <= border)
    nearer_pixels, nearer_place = pixels <= NEARER * place, place <= NEARER * pixels
    # Maps that do not move at all, and cover so much that both are small, are still.
    moved = np.maximum(pixels, place) > 0
    following = moved & with_pixels & (nearer_pixels | ~at_place)
    staying = moved & at_place & ~following & (nearer_place | ~with_pixels)
    # Maps that hardly differ between pictures have no border to speak of; what does not move is still all the same.
    still = known & ~following & ~staying & ((with_pixels & at_place) | (np.maximum(pixels, place) <= STILL))
    return _Kinds(known | vanished, following, staying, still)
