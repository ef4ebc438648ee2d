"""From maps to the scores of pairs, one chunk of features at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, UInt32

from infoscope.images.source import spread_evenly
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.maps import MapParts
from infoscope.measurement.ranking import Ranking
from infoscope.measurement.tables import maps_table
from infoscope.runtime.columns import join_tables, write_table
from infoscope.runtime.partials import Arrays, Partials, digest, shards
from infoscope.runtime.progress import Advance, progress
from infoscope.runtime.schema import MAPS
from infoscope.runtime.seal import file_sum
from infoscope.scope.code_noise import CodeNoise
from infoscope.scope.controls import PairControls, control_pairs
from infoscope.scope.maps import MapPairs
from infoscope.scope.score import PairScores, score_pairs

# Pairs scored between two reports of progress.
SHARD_PAIRS = 16384
# Our choice: shares in the sensitivity table are then known to within three percentage points, for a few per cent more
# time.
FLOOR_FEATURES = 256
# The name, among a chunk's scores, of the checksum of the file of its maps, since a parquet file has none of its own.
_MAPS_SUM = "maps_sha256"


@dataclass(frozen=True)
class Scoring:
    """How the pairs of a measurement are scored.

    Attributes:
        chunks: features whose maps are in memory together.
        grid: p, patches per side.
        config: the options.
        partials: where finished chunks are kept.
        noise: the code noise of the dictionary; None where it was not measured.
    """

    chunks: Sequence[range]
    grid: int
    config: MeasureConfig
    partials: Partials
    noise: CodeNoise | None = None

    def score(
        self, maps: MapParts, ranking: Ranking, maps_file: Path | None
    ) -> tuple[PairScores, PairControls, pl.DataFrame | Path]:
        """The scores and controls of all pairs, by feature, then rank, and the table of their maps.

        Args:
            maps: the maps of the ranking's pairs.
            ranking: the strongest images.
            maps_file: where the table of maps is written, a chunk at a time; None to return it in memory.

        Raises:
            InfoscopeError: a file cannot be read or written.
        """
        total = int((ranking.image >= 0).sum())
        # Named by the ranking and the code noise: those that are computed again on other hardware may differ.
        noise = np.frombuffer(repr(self.noise).encode(), np.uint8)
        stem = f"scores-noise-{digest(ranking.image, ranking.score, noise)}"
        chunk_arrays: list[Arrays] = []
        tables: list[pl.DataFrame] = []
        files: list[Path] = []
        with progress("Earth mover's distances", total, "pairs") as advance:
            for number, features in enumerate(self.chunks):

                def compute(number: int = number, features: range = features) -> tuple[Arrays, pl.DataFrame]:
                    pairs = ranking.pairs(maps.of_chunk(number), features)
                    scores, controls = score_with_controls(
                        pairs, self.grid, self.config, advance, len(ranking.image), self.noise
                    )
                    kept = pairs.take(np.flatnonzero(pairs.rank < self.config.top_images))
                    return scores.arrays() | controls.arrays(), maps_table(kept)

                if maps_file is None:
                    arrays, table = compute()
                    tables.append(table)
                else:
                    name = f"{stem}-{number:06}"
                    files.append(self.partials.beside(f"{name}.parquet"))
                    arrays = self._kept_or_computed(name, files[-1], compute, advance)
                chunk_arrays.append(arrays)
        scores = PairScores.concatenate([PairScores.from_arrays(arrays) for arrays in chunk_arrays])
        controls = PairControls.concatenate([PairControls.from_arrays(arrays) for arrays in chunk_arrays])
        if maps_file is None:
            return scores, controls, pl.concat(tables)
        join_tables(maps_file, files, MAPS)
        return scores, controls, maps_file

    def score_alone(self, name: str, maps: MapParts, ranking: Ranking, shift: int, advance: Advance) -> PairScores:
        """The scores of all pairs without their controls, which is what a cross-check needs.

        Args:
            name: name of the cross-check.
            maps: the maps of the ranking's pairs.
            ranking: the images.
            shift: s, patches between the two maps of a pair.
            advance: called with the number of pairs done.

        Raises:
            InfoscopeError: a file cannot be read or written.
        """
        config = replace(self.config, shift=shift, shifts=())
        stem = f"scores-{name}-{digest(ranking.image, ranking.score)}"
        scores = []
        for number, features in enumerate(self.chunks):
            partial_name = f"{stem}-{number:06}"
            resumed = partial_name in self.partials

            def compute(number: int = number, features: range = features) -> Arrays:
                pairs = ranking.pairs(maps.of_chunk(number), features)
                return score_without_controls(pairs, self.grid, config, advance).arrays()

            scores.append(PairScores(**self.partials.get_or_compute(partial_name, compute)))
            if resumed:
                advance(len(scores[-1].emd))
        return PairScores.concatenate(scores)

    def _kept_or_computed(
        self, name: str, file: Path, compute: Callable[[], tuple[Arrays, pl.DataFrame]], advance: Advance
    ) -> Arrays:
        if name in self.partials:
            arrays = self.partials.read(name)
            if file.is_file() and np.array_equal(arrays.pop(_MAPS_SUM, np.empty(0)), _sum_of(file)):
                advance(len(arrays["emd"]))
                return arrays
        arrays, table = compute()
        # Before the scores, whose presence says that the maps are there too.
        write_table(file, table, MAPS)
        self.partials.put(name, arrays | {_MAPS_SUM: _sum_of(file)})
        return arrays


def score_with_controls(
    pairs: MapPairs,
    grid: int,
    config: MeasureConfig,
    advance: Advance,
    features: int,
    noise: CodeNoise | None = None,
) -> tuple[PairScores, PairControls]:
    """Scores and controls of the pairs of whole features; the controls compare pairs of one feature with each other.

    They follow from the maps and the code noise alone, both of which a run keeps.

    Args:
        pairs: the maps.
        grid: p, patches per side.
        config: the options.
        advance: called with the number of pairs done.
        features: features of the dictionary, which decides for which of them distances under floors are computed.
        noise: its code noise; None where it was not measured.
    """
    sampled = floor_sample(features)
    scores, controls = [], []
    for shard in whole_features(pairs.feature, SHARD_PAIRS) or [range(0)]:
        shard_pairs, reference = _prepared(pairs.take(shard), config)
        options = grid, config.shift, config.ground_distance
        scores.append(score_pairs(shard_pairs, *options, reference))
        controls.append(
            control_pairs(
                shard_pairs,
                *options,
                sampled[shard_pairs.feature],
                config.empty_as,
                config.top_images,
                noise,
                config.seed,
            )
        )
        advance(len(shard))
    return PairScores.concatenate(scores), PairControls.concatenate(controls)


def score_without_controls(pairs: MapPairs, grid: int, config: MeasureConfig, advance: Advance) -> PairScores:
    """Scores of pairs without their controls; see `score_with_controls`."""
    scores = []
    for shard in shards(len(pairs), SHARD_PAIRS) or [range(0)]:
        shard_pairs, reference = _prepared(pairs.take(shard), config)
        scores.append(score_pairs(shard_pairs, grid, config.shift, config.ground_distance, reference))
        advance(len(shard))
    return PairScores.concatenate(scores)


def _prepared(pairs: MapPairs, config: MeasureConfig) -> tuple[MapPairs, Float32[np.ndarray, " pair"]]:
    """The pairs with weak codes removed as ``floor`` says, and the activation that retention divides by."""
    reference = pairs.score if config.rank_by == "max" else pairs.peak()
    if config.floor > 0:
        pairs = replace(pairs, first=pairs.first.floored(config.floor), second=pairs.second.floored(config.floor))
    return pairs, reference


def floor_sample(features: int) -> Bool[np.ndarray, " feature"]:
    """The features for which distances under floors are computed too: all, or `FLOOR_FEATURES` spread evenly.

    Example:
        >>> int(floor_sample(100).sum()), int(floor_sample(4096).sum())
        (100, 256)
    """
    sampled = np.zeros(features, np.bool_)
    sampled[sorted(spread_evenly(features, FLOOR_FEATURES))] = True
    return sampled


def whole_features(feature: UInt32[np.ndarray, " pair"], most: int) -> list[range]:
    """Cut pairs ordered by feature into stretches of whole features, of at most ``most`` pairs unless one has more.

    Example:
        >>> whole_features(np.array([0, 0, 3, 3, 3, 7], np.uint32), 4)
        [range(0, 2), range(2, 6)]
    """
    ends = np.append(np.flatnonzero(np.diff(feature)) + 1, len(feature))
    stretches, first = [], 0
    while first < len(feature):
        fitting = int(np.searchsorted(ends, first + most, side="right")) - 1
        following = int(np.searchsorted(ends, first, side="right"))
        stop = int(ends[max(fitting, following)])
        stretches.append(range(first, stop))
        first = stop
    return stretches


def _sum_of(file: Path) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(file_sum(file).sha256), np.uint8)
