"""The older rules for classes: thresholds on shares of pairs and on controls, and the first that holds decides.

They are kept for runs that were judged by them, and as the option ``--rules thresholds``. Their last class, *global*,
is what is left over, so on models without parked features it fills with what is merely unsettled; the newer rules are
in `infoscope.scope.posterior`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt32

from infoscope.scope.classes import Classes, Moves, ScopeClass
from infoscope.scope.controls import LEAST_NULL, FeatureControls, PairControls
from infoscope.scope.geometry import Geometry
from infoscope.scope.score import FeatureScores, PairScores, feature_mean

RATIO = 0.8
"""A pair follows or stays only where the shorter of its two distances is at most this share of the longer one."""

AWAY = 0.45
"""A map is away from a place when it moves by more than this share of the mean distance between unrelated patches."""


def share_moves(
    scores: PairScores,
    controls: PairControls,
    feature: UInt32[np.ndarray, " pair"],
    n_features: int,
    geometry: Geometry,
    ratio: float = RATIO,
    away: float = AWAY,
) -> Moves:
    """Sort every feature's pairs by how they moved.

    Args:
        scores: of all pairs.
        controls: of the same pairs.
        feature: the feature of each pair.
        n_features: features of the dictionary.
        geometry: the grid and the shift.
        ratio: the share of the longer distance that the shorter one may be for a pair to follow or stay.
        away: the share of the mean distance of two unrelated patches beyond which a map is away.

    `classify` has an example.
    """
    against_pixels, against_crop, known, seen = _distances(scores, controls, geometry)
    moved = np.maximum(against_pixels, np.where(known, against_crop, 0.0)) > 0
    staying = known & moved & (against_crop <= ratio * against_pixels)
    following = known & moved & seen & (against_pixels <= ratio * against_crop) & ~staying
    still = known & ~staying & ~following
    still &= np.maximum(against_pixels, against_crop) <= ratio * geometry.movement
    vanished = ~known & scores.one_empty()
    judged = known | vanished

    def share(pairs: Bool[np.ndarray, " pair"]) -> Float64[np.ndarray, " feature"]:
        return feature_mean(pairs.astype(np.float64), judged, feature, n_features)

    return Moves(
        share(following),
        share(staying),
        share(still),
        share(judged & ~following & ~staying & ~still),
        share_away(scores, controls, feature, n_features, geometry, away),
        share(vanished),
        np.bincount(feature[judged], minlength=n_features).astype(np.uint32),
    )


def share_away(
    scores: PairScores,
    controls: PairControls,
    feature: UInt32[np.ndarray, " pair"],
    n_features: int,
    geometry: Geometry,
    away: float = AWAY,
) -> Float64[np.ndarray, " feature"]:
    """The share of every feature's pairs that are far from place and pixels; see `Moves`.

    Arguments as for `share_moves`, one of whose shares it is.
    """
    against_pixels, against_crop, known, seen = _distances(scores, controls, geometry)
    vanished = ~known & scores.one_empty()
    far = away * geometry.unrelated * geometry.largest
    lost = known & (against_crop > far) & ((against_pixels > far) | ~seen)
    return feature_mean((lost | vanished).astype(np.float64), known | vanished, feature, n_features)


def _distances(
    scores: PairScores, controls: PairControls, geometry: Geometry
) -> tuple[
    Float64[np.ndarray, " pair"],
    Float64[np.ndarray, " pair"],
    Bool[np.ndarray, " pair"],
    Bool[np.ndarray, " pair"],
]:
    """How far each pair's maps move in patches, against pixels and crop; which have both full maps, and both overlaps.

    What left the overlap is elsewhere in the crop, so at least as far from its pixels as the pixels move.
    """
    against_crop = controls.position * geometry.full_largest
    known = ~np.isnan(against_crop)
    seen = ~np.isnan(scores.emd)
    return np.where(seen, scores.emd * geometry.largest, geometry.movement), against_crop, known, seen


@dataclass(frozen=True)
class ClassRules:
    """The thresholds of the classes; docs/defaults.md argues them."""

    settled: float = 1.25
    """Maps are settled when they move on average at most this many times as far as the pixels do, against both."""
    settled_unrelated: float = 0.6
    """They also move by at most this share of the mean distance of two unrelated patches; a large shift comes close."""
    settled_calibrated: float = 0.75
    """Position-bound, if settled: a calibrated score of at least this, since the picture then makes no difference."""
    staying: float = 0.6
    """Position-bound: at least this share of the pairs stays at its place."""
    away: float = 0.4
    """Position-bound or local: at most this share of the pairs is far from the place in the crop and the pixels."""
    following: float = 0.6
    """Local: at least this share of the pairs follows the pixels."""
    calibrated: float = 0.6
    """Local: a calibrated score of at most this, or else ``far_from_crop``."""
    calibrated_alone: float = 0.4
    """Local: a calibrated score of at most this, however many pairs follow."""
    far_from_crop: float = 0.5
    """Local: the mean distance at equal pixels is at most this share of the one at equal places of the crop."""
    still: float = 0.5
    """Diffuse: at least this share of the pairs hardly moves at all."""
    broad: float = 0.5
    """Diffuse: an effective area of at least this share of the overlap, or a null under half a patch."""
    narrow_null: float = LEAST_NULL
    """In patches. Where the maps of unrelated pictures are closer than this, they cannot be told apart."""
    jumping: float = 0.5
    """Global without a CDS: at least this share of the pairs jumps."""
    vanished: float = 0.5
    """Global, with a CDS or without: at least this share of the pairs vanishes from one crop."""


def classify(
    scores: FeatureScores,
    controls: FeatureControls,
    moves: Moves,
    geometry: Geometry,
    min_pairs: int,
    rules: ClassRules | None = None,
) -> Classes:
    """Class every feature.

    The first of these rules that holds decides:

    1. undefined: fewer than ``min_pairs`` pairs can be judged, or there is no shift.
    2. global: half of the pairs vanish from one crop; or fewer than ``min_pairs`` have mass in both crops, and half of
       the pairs vanish or jump. With fewer than ``min_pairs`` and neither, undefined.
    3. position-bound: at most 40 % of the pairs are away, from their place in the crop and from the pixels. In
       addition, 60 % of the pairs stay at that place; or the maps are settled, more pairs stay than follow, and the
       calibrated score is at least 0.75 or not known.
    4. diffuse: the maps are broad, and half of the pairs hardly move either way.
    5. local: at most 40 % of the pairs are away. In addition, the calibrated score is at most 0.4; or 60 % of the pairs
       follow the pixels, and either the calibrated score is at most 0.6 or the maps move against the pixels by at most
       half of what they move against the crop; or the maps are settled, not broad, and the calibrated score is under
       0.75 or not known.
    6. diffuse: the maps are broad.
    7. global, where there is a CDS, or half of the pairs jump; else undefined.

    A settled map's calibrated score is not known where unrelated pictures are less than half a patch apart: the picture
    then makes no difference to the map.

    Maps are broad with an effective area of at least half of the overlap, or a null under half a patch. They are
    settled when on average they move hardly farther than the pixels do, against the pixels and against the crop.

    Args:
        scores: of every feature.
        controls: of every feature.
        moves: how its pairs moved.
        geometry: the grid and the shift.
        min_pairs: as in `score_features`.
        rules: the thresholds.

    Example:
        Peaks at the same pixels of both crops, at the same corner of the crops, anywhere, and maps that are even:

        >>> from infoscope.scope.controls import control_features, control_pairs
        >>> from infoscope.scope.maps import SparseMaps

        >>> from infoscope.scope.maps import MapPairs
        >>> from infoscope.scope.score import score_features, score_pairs
        >>> rng, p, s, k = np.random.default_rng(0), 10, 2, 8
        >>> first, second = np.zeros((2, 4 * k, p, p))
        >>> for m in range(k):
        ...     row, column = rng.integers(s, p, 2)
        ...     first[m, row, column], second[m, row - s, column - s] = 1, 1
        ...     first[k + m, 0, 0], second[k + m, 0, 0] = 1, 1
        ...     first[2 * k + m, *rng.integers(s, p, 2)], second[2 * k + m, *rng.integers(0, p - s, 2)] = 1, 1
        >>> first[3 * k :], second[3 * k :] = 1, 1
        >>> maps = [SparseMaps.from_dense(m.reshape(-1, p * p)) for m in (first, second)]
        >>> feature, rank = np.divmod(np.arange(4 * k), k)
        >>> pairs = MapPairs(feature.astype(np.uint32), rank.astype(np.uint16), np.arange(4 * k, dtype=np.uint64),
        ...                  np.ones(4 * k, np.float32), *maps)
        >>> geometry = Geometry(p, s)
        >>> pair_scores, pair_controls = score_pairs(pairs, p, s), control_pairs(pairs, p, s)
        >>> scores = score_features(pair_scores, pairs.feature, 4, min_pairs=4)
        >>> controls = control_features(pair_controls, pair_scores, scores, pairs.feature, pairs.rank, k, 4,
        ...                             geometry.largest)
        >>> moves = share_moves(pair_scores, pair_controls, pairs.feature, 4, geometry)
        >>> classify(scores, controls, moves, geometry, min_pairs=4).names
        ['local', 'position-bound', 'global', 'diffuse']
        >>> class_names(scores, controls, moves, geometry, min_pairs=4)
        ['local', 'position-bound', 'global', 'diffuse']
    """
    names = class_names(scores, controls, moves, geometry, min_pairs, rules)
    return Classes(names, _evidence(names, scores, controls, moves, geometry, min_pairs))


def class_names(
    scores: FeatureScores,
    controls: FeatureControls,
    moves: Moves,
    geometry: Geometry,
    min_pairs: int,
    rules: ClassRules | None = None,
) -> list[ScopeClass]:
    """The class of every feature, as `classify` gives it, without the evidence, which takes a loop over the features.

    Arguments as for `classify`, whose example shows both.
    """
    rules = rules or ClassRules()
    against_pixels = scores.cds * geometry.largest
    against_crop = controls.position_control * geometry.full_largest
    known = (moves.judged >= min_pairs) & (geometry.shift > 0)
    few = controls.position_pairs < min_pairs
    scored = ~np.isnan(scores.cds)
    unrelated = geometry.unrelated * geometry.largest
    with np.errstate(invalid="ignore"):
        broad = scores.effective_area >= rules.broad * geometry.cells
        broad |= controls.cds_null * geometry.largest < rules.narrow_null
        far = np.minimum(rules.settled * geometry.movement, rules.settled_unrelated * unrelated)
        settled = np.fmax(against_pixels, against_crop) <= far
        settled &= scored
        home = moves.away <= rules.away
        glued = moves.staying >= rules.staying
        near = controls.cds_calibrated <= rules.calibrated
        near |= against_pixels <= rules.far_from_crop * against_crop
        local = scored & (moves.following >= rules.following) & near
        local |= controls.cds_calibrated <= rules.calibrated_alone
        # Where the score is as far as unrelated pictures give, a small movement is no sign of the pixels.
        as_unrelated = controls.cds_calibrated >= rules.settled_calibrated
        local |= settled & ~broad & ~as_unrelated
        still = broad & (moves.still >= rules.still)
        between = settled & (moves.staying > moves.following)
        glued |= between & ~still & (as_unrelated | np.isnan(controls.cds_calibrated))
        # If the place or the pixels decided where the maps are, few pairs would be far from both.
        glued &= home
        local &= home
        jumps = moves.jumping >= rules.jumping
        vanishes = (moves.vanished >= rules.vanished) | (few & jumps)
    order = [~known, vanishes, few, glued, still, local, broad, scored | jumps]
    answers = ["undefined", "global", "undefined", "position-bound", "diffuse", "local", "diffuse", "global"]
    names: list[ScopeClass] = np.select(order, answers, default="undefined").tolist()
    return names


def _evidence(
    names: list[ScopeClass],
    scores: FeatureScores,
    controls: FeatureControls,
    moves: Moves,
    geometry: Geometry,
    min_pairs: int,
) -> list[str]:
    """The evidence for each feature's class, in one line."""
    if geometry.shift == 0:
        return ["no shift, so no map can move"] * len(names)
    pixels, crop = scores.cds * geometry.largest, controls.position_control * geometry.full_largest
    covered = scores.effective_area / geometry.cells
    null = controls.cds_null * geometry.largest
    lines = []
    for feature, name in enumerate(names):
        pairs, both = int(moves.judged[feature]), int(controls.position_pairs[feature])
        vanished = pairs - both
        if pairs < min_pairs or (both < min_pairs and name == "undefined"):
            also = f", and vanished from one in {vanished}" if vanished else ""
            lines.append(f"activation in both crops in {both} images, fewer than {min_pairs}{also}")
            continue
        clauses = moves.clauses(feature)
        if vanished:
            clauses.append(f"{vanished} of {pairs} pairs vanish from one crop, counted among those that jump")
        if moves.away[feature] > 0:
            clauses.append(f"{round(moves.away[feature] * pairs)} of {pairs} pairs are far from both place and pixels")
        if np.isnan(crop[feature]):
            clauses.append(f"activation in both crops in {both} images, fewer than {min_pairs}")
        elif np.isnan(pixels[feature]):
            clauses.append(
                f"moves {crop[feature]:.2f} patches against the crop; too few pairs reach the overlap for a CDS"
            )
        else:
            clauses.append(
                f"moves {pixels[feature]:.2f} patches against the pixels, {crop[feature]:.2f} against the crop"
            )
        if not np.isnan(controls.cds_calibrated[feature]):
            clauses.append(f"calibrated score {controls.cds_calibrated[feature]:.2f}")
        elif null[feature] < LEAST_NULL:
            clauses.append(f"unrelated pictures are only {null[feature]:.2f} patches apart")
        if not np.isnan(covered[feature]) and name in ("diffuse", "local", "global"):
            clauses.append(f"covers {covered[feature]:.0%} of the overlap")
        lines.append("; ".join(clauses))
    return lines
