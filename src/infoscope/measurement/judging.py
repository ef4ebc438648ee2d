"""From the scores of pairs to the result of each feature: score, controls, class and trust."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.ranking import Ranking
from infoscope.scope.classes import Classes, Moves, classify, share_moves
from infoscope.scope.controls import FeatureControls, PairControls, control_features
from infoscope.scope.geometry import Geometry
from infoscope.scope.reliability import split_half
from infoscope.scope.score import FeatureScores, PairScores, score_features
from infoscope.scope.trust import Trust, judge_trust


@dataclass(frozen=True)
class Features:
    """Scores, controls, classes and trust of every feature."""

    scores: FeatureScores
    controls: FeatureControls
    moves: Moves
    classes: Classes
    trust: Trust


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
    feature, rank = feature.astype(np.uint32), rank.astype(np.uint16)
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
    return Features(scores, controls, moves, classes, trust)
