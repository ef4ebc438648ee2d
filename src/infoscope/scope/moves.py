"""What each pair of maps did: followed the pixels, stayed at its place in the crop, hardly moved, jumped or vanished.

Between the crops the pixels move by s patches both ways. A map that follows them moves against the crop and not against
the pixels; one that is glued to a place does the reverse; one that jumps moves against both. Comparing the two
distances of the same pair is what noise harms least, since it lengthens both.

A map that is there in one crop and wholly empty in the other has vanished, if it lay on pixels that both crops show:
it neither followed them nor stayed. One that lay outside the overlap tells nothing when it is gone, since a map that
follows its pixels leaves the other crop with them. Where both maps have mass but one of them none on the overlap, the
pair did not follow either; whether it stayed is then judged by what it moved against the crop.

One distance may be the shorter by chance. Where it is long as well, the pair is *away* from both places where its map
could be explained, and speaks against them. A feature that is usually at home has many such pairs, a noisy one few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt32

from infoscope.scope.controls import PairControls
from infoscope.scope.geometry import Geometry
from infoscope.scope.groups import feature_mean
from infoscope.scope.score import PairScores

RATIO = 0.8
"""The shorter of a pair's two distances is at most this part of the longer one, or the pair tells nothing by it."""

AWAY = 0.45
"""A map is away from a place when it moves by more than this part of the mean distance of two unrelated patches."""


@dataclass(frozen=True)
class Moves:
    """What each feature's pairs did, as shares of those that tell it, ``[feature]`` each; NaN without any.

    The first four add up to 1.

    Attributes:
        following: moved against the pixels at most 0.8 of what they moved against the crop.
        staying: the reverse. Where an overlap map is empty, the movement of the pixels stands for the missing distance.
        still: neither, and moved by less than 0.8 of the movement of the pixels both ways: too broad to move.
        jumping: the rest, those that vanish among them.
        away: of any of these, moved far against the pixels and against the crop: by more than 0.45 of the mean distance
            of two unrelated patches. Where an overlap map is empty, it is far from the pixels. And all that vanish.
        vanished: mass on the overlap in one crop, and none anywhere in the other.
        judged: number of pairs that tell: with mass in both full maps, or vanished.
    """

    following: Float64[np.ndarray, " feature"]
    staying: Float64[np.ndarray, " feature"]
    still: Float64[np.ndarray, " feature"]
    jumping: Float64[np.ndarray, " feature"]
    away: Float64[np.ndarray, " feature"]
    vanished: Float64[np.ndarray, " feature"]
    judged: UInt32[np.ndarray, " feature"]


def share_moves(
    scores: PairScores,
    controls: PairControls,
    feature: UInt32[np.ndarray, " pair"],
    n_features: int,
    geometry: Geometry,
    ratio: float = RATIO,
    away: float = AWAY,
) -> Moves:
    """Sort every feature's pairs by what they did.

    Args:
        scores: of all pairs.
        controls: of the same pairs.
        feature: the feature of each pair.
        n_features: features of the dictionary.
        geometry: the grid and the shift.
        ratio: how much shorter one of a pair's two distances must be to count.
        away: from what part of the mean distance of two unrelated patches on a map is away.

    `infoscope.scope.classes.classify` has an example.
    """
    against_crop = controls.position * geometry.full_largest
    known = ~np.isnan(against_crop)
    seen = ~np.isnan(scores.emd)
    against_pixels = np.where(seen, scores.emd * geometry.largest, geometry.movement)
    moved = np.maximum(against_pixels, np.where(known, against_crop, 0.0)) > 0
    staying = known & moved & (against_crop <= ratio * against_pixels)
    following = known & moved & seen & (against_pixels <= ratio * against_crop) & ~staying
    still = known & ~staying & ~following
    still &= np.maximum(against_pixels, against_crop) <= ratio * geometry.movement
    vanished = ~known & scores.one_empty()
    judged = known | vanished
    far = away * geometry.unrelated * geometry.largest
    lost = known & (against_crop > far) & ((against_pixels > far) | ~seen)

    def share(pairs: Bool[np.ndarray, " pair"]) -> Float64[np.ndarray, " feature"]:
        return feature_mean(pairs.astype(np.float64), judged, feature, n_features)

    return Moves(
        share(following),
        share(staying),
        share(still),
        share(judged & ~following & ~staying & ~still),
        share(lost | vanished),
        share(vanished),
        np.bincount(feature[judged], minlength=n_features).astype(np.uint32),
    )
