"""From the maps of the cross-checks to their scores and tables; the main score comes from `Scoring.score`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from infoscope.measurement.map_sets import MAIN, MapSet, map_sets
from infoscope.measurement.maps import MapParts, PrefixedPart
from infoscope.measurement.ranking import Ranking
from infoscope.measurement.scoring import Scoring
from infoscope.measurement.tables import cross_checks_table, shift_curve_table, top_images_table
from infoscope.runtime.partials import Part
from infoscope.runtime.progress import progress
from infoscope.scope.reliability import paired_difference
from infoscope.scope.score import FeatureScores, PairScores, score_features


@dataclass(frozen=True)
class CrossChecks:
    """The tables of the cross-checks; None for those that were not asked for.

    Attributes:
        shift_curve: one row a feature and shift; columns in `infoscope.runtime.schema.SHIFT_CURVE`.
        cross_checks: one row a feature and check; columns in `infoscope.runtime.schema.CROSS_CHECKS`.
        quantile_images: the images spread over a feature's quantiles, with the columns of the top images.
    """

    shift_curve: pl.DataFrame | None = None
    cross_checks: pl.DataFrame | None = None
    quantile_images: pl.DataFrame | None = None


@dataclass(frozen=True)
class CrossScoring:
    """Scores the maps of every set except that of the main score.

    Attributes:
        scoring: how the main score was computed.
        parts: the maps from pass 2, all sets in each part.
        ranking: the strongest images.
        spread: the images spread over each feature's quantiles, if those were asked for.
    """

    scoring: Scoring
    parts: Sequence[Part]
    ranking: Ranking
    spread: Ranking | None

    def run(self, main: PairScores, ids: Sequence[str]) -> CrossChecks:
        """Score all sets.

        Args:
            main: the scores of the main set's pairs.
            ids: the ids of all images.

        Raises:
            InfoscopeError: a file cannot be read or written.
        """
        config, grid = self.scoring.config, self.scoring.grid
        sets = [map_set for map_set in map_sets(config) if map_set.name != MAIN]
        total = sum(int((self._ranking_of(map_set).image >= 0).sum()) for map_set in sets)
        pairs: dict[str, PairScores] = {}
        with progress("Cross-checks", total, "pairs") as advance:
            for map_set in sets:
                parts = [PrefixedPart(part, map_set.array_prefix) for part in self.parts]
                maps = MapParts(parts, self.scoring.chunks, grid**2)
                ranking = self._ranking_of(map_set)
                pairs[map_set.name] = self.scoring.score_alone(map_set.name, maps, ranking, map_set.shift, advance)
        curve = {
            shift: self._features(main if shift == config.shift else pairs[f"shift-{shift}"], self.ranking)
            for shift in config.curve
        }
        others = [map_set for map_set in sets if not map_set.name.startswith("shift-")]
        quantiles = [pairs[map_set.name] for map_set in others if map_set.sampled]
        return CrossChecks(
            shift_curve_table(curve, grid, config.ground_distance) if len(curve) > 1 else None,
            pl.concat(self._checks(others, main, pairs)) if others else None,
            top_images_table(self._spread, quantiles[0], ids) if quantiles else None,
        )

    def _checks(self, sets: Sequence[MapSet], main: PairScores, pairs: dict[str, PairScores]) -> Iterator[pl.DataFrame]:
        config, feature = self.scoring.config, _feature_of(self.ranking)
        for map_set in sets:
            own = pairs[map_set.name]
            scores = self._features(own, self._ranking_of(map_set), map_set.sampled)
            difference = None
            # The quantiles are of other images, so that there are no pairs to subtract.
            if not map_set.sampled:
                least, empty_as = config.least_pairs, config.empty_as
                difference = paired_difference(main, own, feature, len(self.ranking.image), least, empty_as)
            yield cross_checks_table(map_set.name, scores, difference)

    def _features(self, pairs: PairScores, ranking: Ranking, sampled: bool = False) -> FeatureScores:
        config = self.scoring.config
        return score_features(
            pairs,
            _feature_of(ranking),
            len(ranking.image),
            min_pairs=config.least_quantile_pairs if sampled else config.least_pairs,
            empty_as=config.empty_as,
            seed=config.seed,
        )

    def _ranking_of(self, map_set: MapSet) -> Ranking:
        return self._spread if map_set.sampled else self.ranking

    @property
    def _spread(self) -> Ranking:
        assert self.spread is not None  # asked for with the sets that need it
        return self.spread


def _feature_of(ranking: Ranking) -> np.ndarray:
    """The feature of each pair of a ranking."""
    return np.nonzero(ranking.image >= 0)[0].astype(np.uint32)
