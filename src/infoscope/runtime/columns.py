"""Columns, each declared once, and the tables of such columns: made of rows, written, and read with their checks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import polars as pl

from infoscope.errors import InfoscopeError, first_line
from infoscope.runtime.atomic import atomic_write, remedy_of

METADATA_KEY = "infoscope.columns"
# The panels of a feature's page and card.
Panel = Literal["controls", "companions", "moves"]

# Shares are means and quotients of floats, which may miss 0 or 1 by their last digits.
_SLACK = 1e-6


@dataclass(frozen=True)
class Column:
    """One column: what a file must hold in it, and what people see of it.

    Schema, checks, the file's metadata, the site, the notebook card, figures and the tables of docs/run-directory.md
    are all made from this.

    Attributes:
        dtype: a polars type; its classes and instances have no common base that checkers accept.
        unit: of the values. One that ends in ``0 to 1`` also says their range.
        meaning: what they are, in a sentence without a capital and a full stop.
        required: no value may be null, nor one in a list.
        choices: the texts that values may be, where they are one of a few.
        label: its heading; `declare` fills in the column's name.
        shown_unit: the unit as people read it, where ``unit`` is long or refers to another column.
        panel: where on a feature's page the column stands, if anywhere.
        on_card: whether the notebook's card shows it too; a card has less room.
        since: the version of infoscope that first wrote the column, where its table is older. Files from before lack it
            and are read with nulls; a column without this must be there.
    """

    dtype: Any
    unit: str
    meaning: str
    required: bool = False
    choices: tuple[str, ...] = ()
    label: str = ""
    shown_unit: str = ""
    panel: Panel | None = None
    on_card: bool = True
    since: str | None = None

    @property
    def is_share(self) -> bool:
        """Whether values are within 0 to 1.

        Example:
            >>> Column(pl.Float64, "share of D, 0 to 1", "").is_share, Column(pl.Float64, "patches", "").is_share
            (True, False)
        """
        return self.unit.endswith("0 to 1")

    @property
    def is_quantity(self) -> bool:
        """Whether values can be plotted and ordered by: one number or yes-or-no a row, and no index.

        Example:
            >>> [Column(dtype, unit, "").is_quantity for dtype, unit in ((pl.Boolean, ""), (pl.UInt32, "index"))]
            [True, False]
        """
        return bool(self.dtype.is_numeric() or self.dtype == pl.Boolean) and self.unit != "index"


Table = MappingProxyType[str, Column]


def declare(columns: Mapping[str, Column]) -> Table:
    """The columns of a table, in the order of its file.

    Example:
        >>> table = declare({"mass_ratio": Column(pl.Float64, "0 to 1", "smaller over larger mass")})
        >>> table["mass_ratio"].label
        'mass ratio'
    """
    return MappingProxyType(
        {
            name: replace(
                column,
                label=column.label or name.replace("_", " "),
                shown_unit=column.shown_unit or column.unit,
            )
            for name, column in columns.items()
        }
    )


def types_of(table: Table) -> dict[str, Any]:
    """The polars types of a table's columns, by name."""
    return {name: column.dtype for name, column in table.items()}


def make_table(table: Table, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Values as a table of the declared columns, in their order; NaN becomes null.

    Args:
        table: the columns.
        values: an array, a list or a series for each column, all of one length; or the rows, a mapping each, in which a
            column that is left out is null.

    Example:
        >>> table = declare({"feature": Column(pl.UInt32, "index", ""), "cds": Column(pl.Float64, "0 to 1", "")})
        >>> make_table(table, {"feature": [0, 1], "cds": [0.5, float("nan")]}).rows()
        [(0, 0.5), (1, None)]
        >>> make_table(table, [{"feature": 0, "cds": 0.5}, {"feature": 1}]).rows()
        [(0, 0.5), (1, None)]
    """
    if not isinstance(values, Mapping):
        values = {name: [row.get(name) for row in values] for name in table}
    return pl.DataFrame([_series(name, column.dtype, values[name]) for name, column in table.items()])


def _series(name: str, dtype: Any, values: Any) -> pl.Series:
    # The type of a list cannot be inferred where it holds only nulls, or lists.
    series = pl.Series(name, values, dtype if isinstance(values, list) else None)
    if series.dtype.is_float():
        series = series.fill_nan(None)
    series = series.cast(dtype)
    return series.list.eval(pl.element().fill_nan(None)) if dtype == pl.List(pl.Float64) else series


def write_table(path: Path, frame: pl.DataFrame, table: Table) -> None:
    """Write a table with its columns' units and meanings in the file's metadata, atomically.

    Raises:
        ValueError: the frame's columns or types are not the table's.
        InfoscopeError: it cannot be written.
    """
    if dict(frame.schema) != types_of(table):
        raise ValueError(f"columns of {path.name} are {dict(frame.schema)}, expected {types_of(table)}")
    with _writing(path) as temporary:
        frame.write_parquet(temporary, metadata=_metadata(table))


def join_tables(path: Path, parts: Sequence[Path], table: Table) -> None:
    """Join tables that `write_table` wrote into one, in their order, without holding it in memory.

    Raises:
        InfoscopeError: a part cannot be read, or the table not be written.

    Example:
        >>> import tempfile
        >>> folder, table = Path(tempfile.mkdtemp()), declare({"feature": Column(pl.UInt32, "index", "")})
        >>> for number in range(2):
        ...     write_table(folder / f"{number}.parquet", make_table(table, {"feature": [number, number]}), table)
        >>> join_tables(folder / "all.parquet", [folder / "0.parquet", folder / "1.parquet"], table)
        >>> read_table(folder / "all.parquet", table)["feature"].to_list()
        [0, 0, 1, 1]
    """
    with _writing(path) as temporary:
        _scan(parts).sink_parquet(temporary, metadata=_metadata(table), maintain_order=True)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """`atomic_write`, with what polars raises."""
    try:
        with atomic_write(path) as temporary:
            yield temporary
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # how polars reports a full disk
        raise InfoscopeError(f"cannot write {path}: {_reason(error)}; {remedy_of(error)}") from error


def _metadata(table: Table) -> dict[str, str]:
    columns = {name: {"unit": column.unit, "meaning": column.meaning} for name, column in table.items()}
    return {METADATA_KEY: json.dumps(columns)}


def read_table(
    path: Path,
    table: Table,
    *,
    where: pl.Expr | None = None,
    limits: Mapping[str, int] | None = None,
    key: Sequence[str] = (),
    cast: bool = False,
) -> pl.DataFrame:
    """Read a table that `write_table` wrote, and check that it holds what its columns declare.

    The path is taken as it is, whatever ``*``, ``?`` and brackets it has.

    Args:
        path: the file.
        table: its columns; others in the file are read as well. Those that files from before lack (`Column.since`)
            are null.
        where: which rows, in terms of its columns; the others are not held in memory. All by default.
        limits: by column, the number that its values are below, such as how many features there are.
        key: columns that no two rows agree in.
        cast: accept columns of other types whose values fit, instead of refusing them.

    Raises:
        InfoscopeError: the file is missing or damaged, has other columns, or holds values that its columns cannot have.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "ranks [1].parquet"
        >>> columns = declare({"feature": Column(pl.UInt32, "index", "", required=True)})
        >>> write_table(file, make_table(columns, {"feature": [0, 7]}), columns)
        >>> read_table(file, columns, where=pl.col("feature") > 0)["feature"].to_list()
        [7]
        >>> read_table(file, columns, limits={"feature": 4})
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: ...ranks [1].parquet holds values of feature that cannot be (7 of 4); make it
        again
    """
    with reading(path):
        rows = _scan([path])
        types = rows.collect_schema()
        # Checked first: a condition on a column of another type fails with a message about types.
        _check_types(path, types, table, cast)
        here = {name: column for name, column in table.items() if name in types}
        if cast:
            rows = rows.with_columns(pl.col(name).cast(column.dtype) for name, column in here.items())
        if len(here) < len(table):
            newer = [pl.lit(None, column.dtype).alias(name) for name, column in table.items() if name not in here]
            rows = rows.with_columns(newer).select(*table, *(name for name in types if name not in table))
        frame = (rows if where is None else rows.filter(where)).collect()
        problem = _problem(frame, here, limits or {}, key)
    if problem:
        raise InfoscopeError(f"{path} holds {problem}; make it again")
    return frame


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what polars raises over a file into a line that names the file.

    A damaged file can make polars panic. That is a ``BaseException``, which is caught by its name: Ctrl-C is one too.

    Raises:
        InfoscopeError: instead of what polars raised.
    """
    try:
        yield
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InfoscopeError(
            f"cannot read {path} ({_reason(error)}); restore it, or measure again into a new directory"
        ) from error


def _scan(files: Sequence[Path]) -> pl.LazyFrame:
    """The rows of files, read when they are asked for; brackets and stars in a path are no pattern."""
    for file in files:
        if not file.is_file():  # polars would read all files of a folder, and wait for a pipe
            reason = "it is not a regular file" if file.exists() else "there is no such file"
            raise InfoscopeError(f"cannot read {file} ({reason}); restore it, or measure again into a new directory")
    # Absolute, because polars takes a leading ~ for the home directory.
    return pl.scan_parquet([file.absolute() for file in files], glob=False)


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or first_line(error)


def _check_types(path: Path, found: Mapping[str, Any], table: Table, cast: bool) -> None:
    wrong = [
        name
        for name, column in table.items()
        if (
            not (found[name] == column.dtype or (cast and not found[name].is_nested()))
            if name in found
            else column.since is None
        )
    ]
    if wrong:
        raise InfoscopeError(
            f"{path} lacks the columns {', '.join(wrong)} of this format; it was written by another version"
        )


def _problem(
    frame: pl.DataFrame,
    table: Mapping[str, Column],
    limits: Mapping[str, int],
    key: Sequence[str],
) -> str | None:
    """What the rows hold that they cannot, or None."""
    for name, column in table.items():
        values = frame[name]
        nulls = values.null_count()
        if values.dtype == pl.List:
            values = frame.filter(pl.col(name).list.len() > 0)[name].explode()
            nulls += values.null_count()
        if column.required and nulls:
            return f"no {name} in {nulls:,} rows"
        values = values.drop_nulls()
        if not len(values):
            continue
        if values.dtype.is_float() and not values.is_finite().all():
            return f"values of {name} that are no numbers"
        if values.dtype.is_numeric():
            least, greatest = values.min(), values.max()
            if column.is_share and not (least >= -_SLACK and greatest <= 1 + _SLACK):  # type: ignore[operator]
                return f"values of {name} outside 0 to 1"
            if name in limits and greatest >= limits[name]:  # type: ignore[operator]
                return f"values of {name} that cannot be ({greatest!r} of {limits[name]:,})"
        if column.choices and (other := {str(value) for value in values.unique()} - set(column.choices)):
            return f"a {name} {min(other)!r}, which is none of {', '.join(column.choices)}"
    if key and frame.select(key).is_duplicated().any():
        return f"several rows for one {', '.join(key)}"
    return None
