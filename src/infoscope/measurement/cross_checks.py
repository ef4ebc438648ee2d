"""From the maps of the cross-checks to their scores and tables; the score itself comes from `Scoring`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.map_sets import MAIN, MapParts, MapSet, SetPart, map_sets
from infoscope.measurement.ranking import Ranking
from infoscope.measurement.stages import digest, score_without_controls
from infoscope.measurement.tables import cross_checks_table, shift_curve_table, top_images_table
from infoscope.runtime.partials import Arrays, Part, Partials
from infoscope.runtime.progress import Advance, progress
from infoscope.scope.reliability import paired_difference
from infoscope.scope.score import FeatureScores, PairScores, score_features


@dataclass(frozen=True)
class CrossChecks:
    """The tables of what was asked for beside the score; None where it was not.

    Attributes:
        shift_curve: one row a feature and shift; columns in `infoscope.runtime.schema.SHIFT_CURVE`.
        cross_checks: one row a feature and check; columns in `infoscope.runtime.schema.CROSS_CHECKS`.
        quantile_images: as the table of top images, of the images spread over a feature's quantiles.
    """

    shift_curve: pl.DataFrame | None = None
    cross_checks: pl.DataFrame | None = None
    quantile_images: pl.DataFrame | None = None


@dataclass(frozen=True)
class CrossScoring:
    """Scores the maps of every set but the score's own.

    Attributes:
        parts: what the passes gave, all sets in each.
        groups: features whose maps are in memory together.
        ranking: the strongest images.
        spread: the images spread over each feature's quantiles, where they were asked for.
        grid: p, patches per side.
        features: of the dictionary.
        config: the options.
        partials: where finished groups are kept.
    """

    parts: Sequence[Part]
    groups: Sequence[range]
    ranking: Ranking
    spread: Ranking | None
    grid: int
    features: int
    config: MeasureConfig
    partials: Partials

    def run(self, main: PairScores, ids: Sequence[str]) -> CrossChecks:
        """Score all sets.

        Args:
            main: the score's own pairs.
            ids: the images' names.

        Raises:
            InfoscopeError: a file cannot be read or written.
        """
        sets = [made for made in map_sets(self.config) if made.name != MAIN]
        total = sum(int((self._ranking(made).image >= 0).sum()) for made in sets)
        with progress("Cross-checks", total, "pairs") as advance:
            pairs = {made.name: self._pairs(made, advance) for made in sets}
        curve = {
            shift: self._features(main if shift == self.config.shift else pairs[f"shift-{shift}"], self.ranking)
            for shift in self.config.curve
        }
        others = [made for made in sets if not made.name.startswith("shift-")]
        quantiles = [pairs[made.name] for made in others if made.sampled]
        return CrossChecks(
            shift_curve_table(curve, self.grid, self.config.ground_distance) if len(curve) > 1 else None,
            pl.concat(self._checks(others, main, pairs)) if others else None,
            top_images_table(self._spread, quantiles[0], ids) if quantiles else None,
        )

    def _checks(self, sets: Sequence[MapSet], main: PairScores, pairs: dict[str, PairScores]) -> Iterator[pl.DataFrame]:
        for made in sets:
            scores = self._features(pairs[made.name], self._ranking(made), made.sampled)
            difference = None
            if not made.sampled:
                least, empty_as = self.config.least_pairs, self.config.empty_as
                same = main, pairs[made.name], _feature_of(self.ranking)
                difference = paired_difference(*same, self.features, least, empty_as)
            yield cross_checks_table(made.name, scores, difference)

    def _pairs(self, made: MapSet, advance: Advance) -> PairScores:
        ranking = self._ranking(made)
        maps = MapParts([SetPart(part, made.name) for part in self.parts], self.groups, self.grid**2)
        config = replace(self.config, shift=made.shift, shifts=())
        name = f"scores-{made.name}-{digest(ranking.image, ranking.score)}"
        scores = []
        for number, group in enumerate(self.groups):
            kept = f"{name}-{number:06}"
            done = kept in self.partials

            def compute(number: int = number, group: range = group) -> Arrays:
                pairs = maps.pairs(number, group, ranking)
                return score_without_controls(pairs, self.grid, config, advance).arrays()

            scores.append(PairScores(**self.partials.get_or_compute(kept, compute)))
            if done:
                advance(len(scores[-1].emd))
        return PairScores.concatenate(scores)

    def _features(self, pairs: PairScores, ranking: Ranking, sampled: bool = False) -> FeatureScores:
        return score_features(
            pairs,
            _feature_of(ranking),
            self.features,
            min_pairs=self.config.least_quantile_pairs if sampled else self.config.least_pairs,
            empty_as=self.config.empty_as,
            seed=self.config.seed,
        )

    def _ranking(self, made: MapSet) -> Ranking:
        return self._spread if made.sampled else self.ranking

    @property
    def _spread(self) -> Ranking:
        assert self.spread is not None  # asked for with the sets that need it
        return self.spread


def _feature_of(ranking: Ranking) -> np.ndarray:
    """The feature of each pair of a ranking."""
    return np.nonzero(ranking.image >= 0)[0].astype(np.uint32)
