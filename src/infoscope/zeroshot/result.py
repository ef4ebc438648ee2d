"""The result of a zero-shot evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import polars as pl

from infoscope.errors import InfoscopeError
from infoscope.outliers.record import without_nan
from infoscope.storage.atomic import remedy_of, remove_leftovers_of
from infoscope.storage.schema import join_tables, read_table, write_table
from infoscope.storage.seal import read_whole, write_sealed
from infoscope.zeroshot.record import ZeroshotRecord
from infoscope.zeroshot.tables import PREDICTIONS, VARIANTS

AGAIN = "restore it, or run `infoscope zeroshot` again"
FILE, VARIANTS_FILE, PREDICTIONS_FILE = "zeroshot.json", "zeroshot.parquet", "predictions.parquet"


@dataclass(frozen=True)
class ZeroshotResult:
    """The result of `measure_zeroshot`; columns and units of the tables are in `infoscope.zeroshot.tables`.

    Attributes:
        record: what was evaluated, with what, on what.
        variants: one row a variant, the untouched model first.
        parts: the rows of `predictions`, a shard of images at a time.
    """

    record: ZeroshotRecord
    variants: pl.DataFrame
    parts: Callable[[], Iterator[pl.DataFrame]] = field(repr=False)

    @property
    def predictions(self) -> pl.DataFrame:
        """One row an image and variant, made or read anew each time."""
        return pl.concat(list(self.parts()))

    def save(self, path: Path | str) -> None:
        """Write a folder; ``zeroshot.json`` comes last, so its presence says that all is there.

        An evaluation that is there already is replaced.

        Raises:
            InfoscopeError: the folder cannot be written.
        """
        path = Path(path)
        pieces: list[Path] = []
        remove_leftovers_of(path / name for name in (FILE, VARIANTS_FILE, PREDICTIONS_FILE))
        try:
            for piece in path.glob(".*predictions-*.tmp"):
                piece.unlink()
            (path / FILE).unlink(missing_ok=True)
            write_table(path / VARIANTS_FILE, self.variants, VARIANTS)
            for number, frame in enumerate(self.parts()):
                pieces.append(path / f".predictions-{number}.tmp")
                write_table(pieces[-1], frame, PREDICTIONS)
            join_tables(path / PREDICTIONS_FILE, pieces, PREDICTIONS)
        except OSError as error:
            raise InfoscopeError(f"cannot write {path}: {error.strerror or error}; {remedy_of(error)}") from error
        finally:
            for piece in pieces:
                piece.unlink(missing_ok=True)
        write_sealed(path / FILE, self.to_json(), [VARIANTS_FILE, PREDICTIONS_FILE])

    def to_json(self) -> dict[str, object]:
        """What ``zeroshot.json`` holds, and the table of variants; a number that is not defined is None."""
        value: dict[str, object] = without_nan(asdict(self.record) | {"results": self.variants.to_dicts()})
        return value


def read_predictions(path: Path | str) -> pl.DataFrame:
    """The table of predictions of a folder that was saved.

    Raises:
        InfoscopeError: it cannot be read.
    """
    path = Path(path)
    if (path / FILE).is_file():
        read_whole(path / FILE, AGAIN, [PREDICTIONS_FILE])
    return read_table(path / PREDICTIONS_FILE, PREDICTIONS)
