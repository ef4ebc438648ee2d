"""From the scores of pairs to the result of each feature: score, controls, class and trust."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64, UInt16, UInt32

from infoscope.measurement.config import MeasureConfig
from infoscope.runtime.progress import Advance, progress
from infoscope.scope.classes import Classes, Moves, ScopeClass
from infoscope.scope.controls import FeatureControls, PairControls, control_features
from infoscope.scope.displacement import FeatureDisplacement, displace_features
from infoscope.scope.evidence import evidence_lines, trust_reasons
from infoscope.scope.geometry import Geometry
from infoscope.scope.interval import DRAWS, FEWEST_DRAWS
from infoscope.scope.posterior import Posterior, PosteriorRules, gather_evidence, judge
from infoscope.scope.reliability import split_half
from infoscope.scope.score import FeatureScores, PairScores, feature_mean, score_features
from infoscope.scope.threshold_rules import class_names, classify, share_away, share_moves
from infoscope.scope.trust import Trust, judge_trust


@dataclass(frozen=True)
class Features:
    """Scores, controls, classes and trust of every feature, and its classes by either half of its images.

    ``chances`` are the posteriors of the classes, which the thresholds of earlier versions do not give.
    """

    scores: FeatureScores
    controls: FeatureControls
    displacement: FeatureDisplacement
    moves: Moves
    classes: Classes
    trust: Trust
    chances: Posterior | None
    halves: Halves


@dataclass(frozen=True)
class Halves:
    """Two judgements of each feature that have no image in common: by its even ranks, and by its odd ones."""

    even: list[ScopeClass]
    odd: list[ScopeClass]


@dataclass(frozen=True)
class _Judged:
    """Pairs by feature, and what follows from them."""

    scores: FeatureScores
    controls: FeatureControls
    moves: Moves
    displacement: FeatureDisplacement
    posterior: Posterior | None


def judge_halves(
    pair_scores: PairScores,
    pair_controls: PairControls,
    ranked: Int64[np.ndarray, "feature rank"],
    grid: int,
    config: MeasureConfig,
    advance: Advance,
) -> Halves:
    """Class every feature twice, each time by half of its images; arguments as for `judge_features`.

    A half needs, of its images, the share of valid pairs that a score needs of k. The halves share what was measured of
    code noise, though no image of their own pairs.
    """
    feature, rank = np.nonzero(ranked >= 0)
    geometry, features = Geometry(grid, config.shift, config.ground_distance), len(ranked)
    judged: list[list[ScopeClass]] = []
    for parity in (0, 1):
        images = (config.mapped_images + 1 - parity) // 2
        if not images:  # one image has no other half
            advance(features)
            judged.append(["undefined"] * features)
            continue
        least = -(-images * config.least_pairs // config.top_images)
        index = np.flatnonzero(rank % 2 == parity)
        own = feature[index].astype(np.uint32)
        place = (rank[index] // 2).astype(np.uint16)
        # Classes do not rest on the interval, so it need not be a good one.
        half = _judge(
            pair_scores.take(index),
            pair_controls.half(index),
            own,
            place,
            features,
            geometry,
            replace(config, top_images=images, min_pairs=least, ranks=None),
            advance,
            FEWEST_DRAWS,
            trust=False,
        )
        if half.posterior is None:
            judged.append(class_names(half.scores, half.controls, half.moves, geometry, least))
        else:
            judged.append(half.posterior.names)
    return Halves(*judged)


def judge_features(
    pair_scores: PairScores,
    pair_controls: PairControls,
    ranked: Int64[np.ndarray, "feature rank"],
    grid: int,
    config: MeasureConfig,
    fvu: float | None,
) -> Features:
    """Gather the scores and controls of all pairs by feature, and judge each feature.

    Args:
        pair_scores: the scores of all pairs, by feature, then rank.
        pair_controls: the controls of the same pairs.
        ranked: the image of each feature and rank; -1 for none.
        grid: p, patches per side.
        config: the options.
        fvu: fraction of variance that the SAE leaves unexplained; None where not known.
    """
    features = len(ranked)
    feature, rank = np.nonzero(ranked >= 0)
    # The images after the first k serve the halves alone.
    top = np.flatnonzero(rank < config.top_images)
    feature, rank = feature[top].astype(np.uint32), rank[top].astype(np.uint16)
    geometry = Geometry(grid, config.shift, config.ground_distance)
    with progress("Classes", 3 * features, "features") as advance:
        halves = judge_halves(pair_scores, pair_controls, ranked, grid, config, advance)
        own = pair_scores.take(top), pair_controls.take(top)
        found = _judge(*own, feature, rank, features, geometry, config, advance)
    scores, controls, moves, least = found.scores, found.controls, found.moves, config.least_pairs
    if found.posterior is None:
        classes = classify(scores, controls, moves, geometry, least)
        reliability = split_half(controls.cds_even, controls.cds_odd).spearman
        trust = judge_trust(classes.names, scores, controls, moves, geometry, config.top_images, fvu, reliability)
    else:
        names, again = found.posterior.names, found.posterior.again
        classes = Classes(names, evidence_lines(names, found.displacement, scores, controls, geometry, least))
        trust = Trust(again, trust_reasons(found.posterior, found.displacement, scores, config.top_images, fvu))
    return Features(scores, controls, found.displacement, moves, classes, trust, found.posterior, halves)


def _judge(
    pair_scores: PairScores,
    pair_controls: PairControls,
    feature: UInt32[np.ndarray, " pair"],
    rank: UInt16[np.ndarray, " pair"],
    features: int,
    geometry: Geometry,
    config: MeasureConfig,
    advance: Advance,
    draws: int = DRAWS,
    trust: bool = True,
) -> _Judged:
    """Gather pairs by feature; the config's k and fewest pairs are those of these pairs."""
    least, empty_as = config.least_pairs, config.empty_as
    scores = score_features(
        pair_scores,
        feature,
        features,
        min_pairs=least,
        empty_as=empty_as,
        seed=config.seed,
        draws=draws,
    )
    controls = control_features(
        pair_controls,
        pair_scores,
        scores,
        feature,
        rank,
        # With fewer than k images there are fewer ranks, but lists by k keep their length, and shares are still of k.
        config.top_images,
        least,
        geometry.largest,
        empty_as,
    )
    moved = pair_scores, pair_controls, feature, features, geometry
    by_distance = share_moves(*moved) if config.rules == "thresholds" else None
    away = share_away(*moved) if by_distance is None else by_distance.away
    vanished = np.isnan(pair_controls.position) & pair_scores.one_empty()
    displacement = displace_features(pair_controls.displacement, vanished, feature, features, away)
    if by_distance is not None:
        advance(features)
        return _Judged(scores, controls, by_distance, displacement, None)
    rules = PosteriorRules()
    area, error = _area(pair_scores, feature, features, geometry)
    # Without a shift nothing moves, and no class can be told.
    fewest = least if geometry.shift else np.iinfo(np.int64).max
    evidence = gather_evidence(displacement, area, error, scores.pairs, int(fewest), rules)
    return _Judged(
        scores, controls, displacement.moves, displacement, judge(evidence, rules, config.seed, advance, trust)
    )


def _area(
    scores: PairScores, feature: UInt32[np.ndarray, " pair"], features: int, geometry: Geometry
) -> tuple[Float64[np.ndarray, " feature"], Float64[np.ndarray, " feature"]]:
    """Mean effective area of each feature as a share of the overlap, and its standard error over pairs."""
    area = scores.effective_area / geometry.cells
    known = ~np.isnan(area)
    mean = feature_mean(area, known, feature, features)
    square = feature_mean((area - mean[feature]) ** 2, known, feature, features, least=2)
    pairs = np.bincount(feature[known], minlength=features)
    return mean, np.sqrt(square / np.maximum(pairs - 1, 1))
