"""From the scores of pairs to the result of each feature: score, controls, class and trust."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.ranking import Ranking
from infoscope.scope.classes import Classes, Moves, ScopeClass, class_names, classify, share_moves
from infoscope.scope.controls import FeatureControls, PairControls, control_features
from infoscope.scope.geometry import Geometry
from infoscope.scope.interval import FEWEST_DRAWS
from infoscope.scope.reliability import split_half
from infoscope.scope.score import FeatureScores, PairScores, score_features
from infoscope.scope.trust import Trust, judge_trust


@dataclass(frozen=True)
class Features:
    """Scores, controls, classes and trust of every feature, and its classes by either half of its images."""

    scores: FeatureScores
    controls: FeatureControls
    moves: Moves
    classes: Classes
    trust: Trust
    halves: Halves


@dataclass(frozen=True)
class Halves:
    """Two judgements of each feature that have no image in common: by its even ranks, and by its odd ones."""

    even: list[ScopeClass]
    odd: list[ScopeClass]


def judge_halves(
    pair_scores: PairScores, pair_controls: PairControls, ranking: Ranking, grid: int, config: MeasureConfig
) -> Halves:
    """Class every feature twice, each time by half of its images; arguments as for `judge_features`.

    A half needs, of its images, the share of valid pairs that a score needs of k.
    """
    feature, rank = np.nonzero(ranking.image >= 0)
    geometry, features = Geometry(grid, config.shift, config.ground_distance), len(ranking.image)
    judged: list[list[ScopeClass]] = []
    for parity in (0, 1):
        images = (config.mapped_images + 1 - parity) // 2
        if not images:  # one image has no other half
            judged.append(["undefined"] * features)
            continue
        least = -(-images * config.least_pairs // config.top_images)
        index = np.flatnonzero(rank % 2 == parity)
        own = feature[index].astype(np.uint32)
        half_scores, half_controls = pair_scores.take(index), pair_controls.half(index)
        # Classes do not rest on the interval, so it need not be a good one.
        scores = score_features(
            half_scores, own, features, min_pairs=least, empty_as=config.empty_as, draws=FEWEST_DRAWS
        )
        controls = control_features(
            half_controls,
            half_scores,
            scores,
            own,
            (rank[index] // 2).astype(np.uint16),
            images,
            least,
            geometry.largest,
            config.empty_as,
        )
        moves = share_moves(half_scores, half_controls, own, features, geometry)
        judged.append(class_names(scores, controls, moves, geometry, least))
    return Halves(*judged)


def judge_features(
    pair_scores: PairScores,
    pair_controls: PairControls,
    ranking: Ranking,
    grid: int,
    config: MeasureConfig,
    fvu: float | None,
) -> Features:
    """Gather the scores and controls of all pairs by feature, and judge each feature.

    Args:
        pair_scores: the scores of all pairs, by feature, then rank.
        pair_controls: the controls of the same pairs.
        ranking: the ranking that the pairs are of.
        grid: p, patches per side.
        config: the options.
        fvu: fraction of variance that the SAE leaves unexplained; None where not known.
    """
    features = len(ranking.image)
    feature, rank = np.nonzero(ranking.image >= 0)
    # The images after the first k serve the halves alone.
    top = np.flatnonzero(rank < config.top_images)
    halves = judge_halves(pair_scores, pair_controls, ranking, grid, config)
    pair_scores, pair_controls = pair_scores.take(top), pair_controls.take(top)
    feature, rank = feature[top].astype(np.uint32), rank[top].astype(np.uint16)
    # With fewer than k images there are fewer ranks, but the lists by k keep their length, and shares are still of k.
    least, empty_as, top_images = config.least_pairs, config.empty_as, config.top_images
    geometry = Geometry(grid, config.shift, config.ground_distance)
    scores = score_features(pair_scores, feature, features, min_pairs=least, empty_as=empty_as, seed=config.seed)
    controls = control_features(
        pair_controls, pair_scores, scores, feature, rank, top_images, least, geometry.largest, empty_as
    )
    moves = share_moves(pair_scores, pair_controls, feature, features, geometry)
    classes = classify(scores, controls, moves, geometry, least)
    reliability = split_half(controls.cds_even, controls.cds_odd).spearman
    trust = judge_trust(classes.names, scores, controls, moves, geometry, top_images, fvu, reliability)
    return Features(scores, controls, moves, classes, trust, halves)
