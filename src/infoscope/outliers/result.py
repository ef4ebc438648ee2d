"""The result of an analysis of outlier tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from infoscope.errors import InfoscopeError
from infoscope.outliers.record import OutlierRecord, without_nan
from infoscope.outliers.tables import BLOCKS, FEATURES, NORMS, POSITIONS, STABILITY
from infoscope.storage.atomic import remedy_of, remove_leftovers_of
from infoscope.storage.schema import write_table
from infoscope.storage.seal import write_sealed

FILE = "outliers.json"
# Drawn from the tables afterwards, by `infoscope.report.outliers`.
FIGURES = ("share.svg", "norms.svg", "places.svg")
FILES = (FILE, *(f"{name}.parquet" for name in ("blocks", "positions", "norms", "stability", "features")), *FIGURES)


@dataclass(frozen=True)
class OutlierResult:
    """The result of `measure_outliers`; columns and units of the tables are in `infoscope.outliers.tables`.

    Attributes:
        record: what was found, with what, on what.
        blocks: one row a block: norms, cutoffs, shares.
        positions: one row a block and patch: how often it is an outlier.
        norms: each block's histogram of norms.
        stability: one row an image: how far its masks move.
        features: one row a feature: mean code on outlier and on normal tokens; None without a run.
    """

    record: OutlierRecord
    blocks: pl.DataFrame
    positions: pl.DataFrame
    norms: pl.DataFrame
    stability: pl.DataFrame
    features: pl.DataFrame | None

    def save(self, path: Path | str) -> None:
        """Write a folder; ``outliers.json`` comes last, so its presence says that all is there.

        An analysis that is there already is replaced.

        Raises:
            InfoscopeError: the folder cannot be written.
        """
        path = Path(path)
        remove_leftovers_of(path / name for name in FILES)
        try:
            for old in (FILE, "features.parquet", *FIGURES):
                (path / old).unlink(missing_ok=True)
        except OSError as error:
            raise InfoscopeError(f"cannot write {path}: {error.strerror or error}; {remedy_of(error)}") from error
        for name, frame, table in (
            ("blocks", self.blocks, BLOCKS),
            ("positions", self.positions, POSITIONS),
            ("norms", self.norms, NORMS),
            ("stability", self.stability, STABILITY),
        ):
            write_table(path / f"{name}.parquet", frame, table)
        if self.features is not None:
            write_table(path / "features.parquet", self.features, FEATURES)
        names = ("blocks", "positions", "norms", "stability", *(() if self.features is None else ("features",)))
        write_sealed(path / FILE, self.to_json(), [f"{name}.parquet" for name in names])

    def to_json(self) -> dict[str, object]:
        """What ``outliers.json`` holds; a number that is not defined is None."""
        value: dict[str, object] = without_nan(asdict(self.record))
        return value
