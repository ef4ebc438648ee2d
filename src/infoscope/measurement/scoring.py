"""From the maps' parts to scores and the table of maps, some features at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.map_sets import MapParts
from infoscope.measurement.ranking import Ranking
from infoscope.measurement.stages import digest, score_some
from infoscope.measurement.tables import maps_table
from infoscope.runtime.partials import Arrays, Partials
from infoscope.runtime.progress import Advance, progress
from infoscope.runtime.schema import MAPS, join_tables, write_table
from infoscope.runtime.seal import file_sum
from infoscope.scope.controls import PairControls
from infoscope.scope.score import PairScores

# Among a group's scores: what the file of its maps is recognised by, for a parquet file has no checksum.
_MAPS_SUM = "maps_sha256"


@dataclass(frozen=True)
class Scoring:
    """Scores every pair of a ranking.

    Attributes:
        maps: the maps of the ranking's pairs.
        groups: features whose maps are in memory together.
        ranking: the strongest images.
        grid: p, patches per side.
        config: the options.
        partials: where finished groups are kept.
    """

    maps: MapParts
    groups: Sequence[range]
    ranking: Ranking
    grid: int
    config: MeasureConfig
    partials: Partials

    def run(self, out: Path | None) -> tuple[PairScores, PairControls, pl.DataFrame | Path]:
        """All pairs' scores and controls, by feature, then rank, and the table of maps: in memory, or the file ``out``.

        Raises:
            InfoscopeError: a file cannot be read or written.
        """
        total = int((self.ranking.image >= 0).sum())
        name = f"scores-{digest(self.ranking.image, self.ranking.score)}"
        scores: list[PairScores] = []
        controls: list[PairControls] = []
        tables: list[pl.DataFrame] = []
        files: list[Path] = []
        with progress("Earth mover's distances", total, "pairs") as advance:
            for group in range(len(self.groups)):
                kept = f"{name}-{group:06}"
                if out is None:
                    arrays, table = self._group(group, advance)
                    tables.append(table)
                else:
                    files.append(self.partials.beside(f"{kept}.parquet"))
                    arrays = self._kept_group(group, kept, files[-1], advance)
                scores.append(PairScores.from_arrays(arrays))
                controls.append(PairControls.from_arrays(arrays))
        found = PairScores.concatenate(scores), PairControls.concatenate(controls)
        if out is None:
            return *found, pl.concat(tables)
        join_tables(out, files, MAPS)
        return *found, out

    def _kept_group(self, group: int, name: str, file: Path, advance: Advance) -> Arrays:
        if name in self.partials:
            arrays = self.partials.read(name)
            if file.is_file() and np.array_equal(arrays.pop(_MAPS_SUM, np.empty(0)), _sum_of(file)):
                advance(len(arrays["emd"]))
                return arrays
        arrays, table = self._group(group, advance)
        # Before the scores are kept, which say that the maps are there too, and which.
        write_table(file, table, MAPS)
        self.partials.put(name, arrays | {_MAPS_SUM: _sum_of(file)})
        return arrays

    def _group(self, group: int, advance: Advance) -> tuple[Arrays, pl.DataFrame]:
        pairs = self.maps.pairs(group, self.groups[group], self.ranking)
        scores, controls = score_some(pairs, self.grid, self.config, advance, len(self.ranking.image))
        return scores.arrays() | controls.arrays(), maps_table(pairs)


def _sum_of(file: Path) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(file_sum(file).sha256), np.uint8)
