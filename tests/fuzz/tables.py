"""Mutations of tables and of scientific files: parquet, MATLAB's and HDF5."""

from __future__ import annotations

import io
import json
import math
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fuzz.mutations import EXTREMES, REGISTRY, Apply, mutation

# Parquet, by the bytes -----------------------------------------------------------------------------------------------


@mutation("parquet.page")
def _page(data: bytes, rng: random.Random) -> bytes | None:
    """A bit before the footer: of a page's header or of its values."""
    length = int.from_bytes(data[-8:-4], "little")
    last = len(data) - 8 - length
    if last <= 4:
        return None
    changed = bytearray(data)
    changed[rng.randrange(4, last)] ^= 1 << rng.randrange(8)
    return bytes(changed)


@mutation("parquet.footer")
def _footer(data: bytes, rng: random.Random) -> bytes | None:
    length = int.from_bytes(data[-8:-4], "little")
    first = len(data) - 8 - length
    if not 4 <= first < len(data) - 8:
        return None
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 4))):
        changed[rng.randrange(first, len(data) - 8)] = rng.randrange(256)
    return bytes(changed)


@mutation("parquet.footer length")
def _footer_length(data: bytes, rng: random.Random) -> bytes:
    length = int.from_bytes(data[-8:-4], "little")
    return data[:-8] + (rng.choice([length - 1, length + 1, *EXTREMES]) % 2**32).to_bytes(4, "little") + data[-4:]


# Parquet, by its columns ---------------------------------------------------------------------------------------------


def _on_frame(change: Callable[[pl.DataFrame, random.Random], pl.DataFrame | None]) -> Apply:
    """A mutation that writes the table anew, with the metadata that it had."""

    def apply(data: bytes, rng: random.Random) -> bytes | None:
        try:
            frame, metadata = pl.read_parquet(data), pl.read_parquet_metadata(io.BytesIO(data))
        except Exception:
            return None
        changed = change(frame, rng)
        if changed is None:
            return None
        out = io.BytesIO()
        kept = {key: text for key, text in metadata.items() if not key.startswith("ARROW")}
        changed.write_parquet(out, metadata=kept)
        return out.getvalue()

    return apply


@mutation("frame.written anew", honest=True)
@_on_frame
def _anew(frame: pl.DataFrame, rng: random.Random) -> pl.DataFrame:
    return frame


@mutation("frame.column removed", honest=True)
@_on_frame
def _removed(frame: pl.DataFrame, rng: random.Random) -> pl.DataFrame:
    return frame.drop(rng.choice(frame.columns))


@mutation("frame.column renamed", honest=True)
@_on_frame
def _renamed(frame: pl.DataFrame, rng: random.Random) -> pl.DataFrame:
    name = rng.choice(frame.columns)
    new = rng.choice([name.upper(), name + " ", "", "a\nb", name[::-1]])
    return frame if new in frame.columns else frame.rename({name: new})


@mutation("frame.column of another type", honest=True)
@_on_frame
def _retyped(frame: pl.DataFrame, rng: random.Random) -> pl.DataFrame:
    name = rng.choice(frame.columns)
    kind = rng.choice(
        (pl.String, pl.Int8, pl.Float32, pl.Boolean, pl.Null, pl.List(pl.String), pl.Date, pl.Float64, pl.UInt64)
    )
    try:
        return frame.with_columns(pl.col(name).cast(kind, strict=False))
    except pl.exceptions.PolarsError:
        return frame.with_columns(pl.lit(None, kind).alias(name))


@mutation("frame.null", honest=True)
@_on_frame
def _null(frame: pl.DataFrame, rng: random.Random) -> pl.DataFrame:
    """Cells that are empty: one, some, or a column's."""
    name = rng.choice(frame.columns)
    row = rng.randrange(max(frame.height, 1))
    where = rng.choice([pl.int_range(pl.len()) == row, pl.int_range(pl.len()) % 2 == 0, pl.lit(True)])
    return frame.with_columns(pl.when(where).then(None).otherwise(pl.col(name)).alias(name))


@mutation("frame.value", honest=True)
@_on_frame
def _value(frame: pl.DataFrame, rng: random.Random) -> pl.DataFrame | None:
    """A cell out of its range."""
    name = rng.choice(frame.columns)
    kind = frame.schema[name]
    options: list[Any]
    if kind.is_float():
        options = [math.nan, math.inf, -math.inf, -1.0, 1e30, 0.0, 1.5]
    elif kind.is_integer():
        options = [0, 1, 255 if kind.is_unsigned_integer() else -1, 99, 65535 if kind != pl.UInt8 else 200]
    elif kind == pl.String:
        options = ["", "unheard of", "../../etc/passwd", "a\0b", "two\nlines", "x" * 10_000, "<script>"]
    elif kind == pl.Boolean:
        options = [True, False]
    elif isinstance(kind, pl.List):
        options = [[], [0], [1] * 100, [65535 if kind.inner.is_integer() else math.nan], [None]]
    else:
        return None
    row = rng.randrange(max(frame.height, 1))
    where = rng.choice([pl.int_range(pl.len()) == row, pl.lit(True)])
    try:
        new = pl.Series([rng.choice(options)], dtype=kind, strict=False)
        return frame.with_columns(pl.when(where).then(pl.lit(new).first()).otherwise(pl.col(name)).alias(name))
    except pl.exceptions.PolarsError:
        return None


@mutation("frame.rows", honest=True)
@_on_frame
def _rows(frame: pl.DataFrame, rng: random.Random) -> pl.DataFrame:
    """No rows, half of them, twice as many, or in another order."""
    half = frame.height // 2
    return rng.choice(
        [frame.clear(), frame.head(half), frame.tail(half), pl.concat([frame, frame]), frame.reverse(), frame.head(1)]
    )


@mutation("frame.column added", honest=True)
@_on_frame
def _added(frame: pl.DataFrame, rng: random.Random) -> pl.DataFrame:
    return frame.with_columns(pl.lit(rng.choice((1.5, "x", None))).alias("of_a_later_version"))


@mutation("frame.not parquet", honest=True)
def _not_parquet(data: bytes, rng: random.Random) -> bytes | None:
    """The same table in another format."""
    try:
        frame = pl.read_parquet(data)
    except Exception:
        return None
    out = io.BytesIO()
    try:
        (frame.write_ipc if rng.random() < 0.5 else frame.write_csv)(out)
    except pl.exceptions.PolarsError:
        return None
    return out.getvalue()


# Parquet of pictures -------------------------------------------------------------------------------------------------


def _on_arrow(change: Callable[[Any, random.Random], Any]) -> Apply:
    def apply(data: bytes, rng: random.Random) -> bytes | None:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            table = parquet.read_table(pa.BufferReader(data))
            changed = change(table, rng)
        except (pa.ArrowException, OSError, KeyError):
            return None
        if changed is None:
            return None
        out = io.BytesIO()
        parquet.write_table(changed, out, row_group_size=2)
        return out.getvalue()

    return apply


@mutation("pictures.cell", honest=True)
@_on_arrow
def _cell(table: Any, rng: random.Random) -> Any:
    """A cell without a picture, with a path of any file, or with other bytes."""
    import pyarrow as pa

    names = [field.name for field in table.schema if pa.types.is_struct(field.type)]
    if not names:
        return None
    name = rng.choice(names)
    cells = table[name].to_pylist()
    odd = [
        None, {"bytes": None, "path": None}, {"bytes": None, "path": "/etc/hostname"}, {"bytes": b"", "path": "x.png"},
        {"bytes": None, "path": "../secret.png"}, {"bytes": b"no picture", "path": None}, {"bytes": None, "path": ""},
        {"bytes": None, "path": "a\0b"}, {"bytes": None, "path": "/dev/zero"}, {"bytes": None, "path": "."},
    ]  # fmt: skip
    cells[rng.randrange(len(cells))] = rng.choice(odd)
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pa.array(cells, table.schema.field(name).type))


@mutation("pictures.described", honest=True)
@_on_arrow
def _described(table: Any, rng: random.Random) -> Any:
    """What the data set says of its own columns."""
    metadata = dict(table.schema.metadata or {})
    if b"huggingface" not in metadata:
        return None
    names = [name for name in sorted(REGISTRY) if name.startswith("json.")]
    text = REGISTRY[rng.choice(names)].apply(metadata[b"huggingface"], rng)
    return None if text is None else table.replace_schema_metadata(metadata | {b"huggingface": text})


@mutation("pictures.columns", honest=True)
@_on_arrow
def _columns(table: Any, rng: random.Random) -> Any:
    """Columns removed, renamed, twice, of another type, or with labels that are none."""
    import pyarrow as pa

    place = rng.randrange(table.num_columns)
    name, column = table.column_names[place], table.column(place)
    what = rng.randrange(6)
    if what == 0:
        return table.remove_column(place)
    if what == 1:
        return table.rename_columns([f"{each}\n" if each == name else each for each in table.column_names])
    if what == 2:
        return table.append_column(name, column)
    if what == 3:
        values = [rng.choice((None, "a", "b")) for _ in range(table.num_rows)]
        return table.set_column(place, name, pa.array(values, pa.string()))
    if what == 4:
        return table.set_column(place, name, pa.nulls(table.num_rows))
    return table.slice(0, rng.choice((0, 1)))


# MATLAB and HDF5 -----------------------------------------------------------------------------------------------------


@mutation("mat.values", honest=True)
def _mat(data: bytes, rng: random.Random) -> bytes | None:
    """Other values under a name, or another name."""
    from scipy.io import loadmat, savemat

    try:
        held = {key: value for key, value in loadmat(io.BytesIO(data)).items() if not key.startswith("__")}
    except Exception:
        return None
    name = rng.choice(sorted(held))
    old = held.pop(name)
    odd: list[Any] = [
        None, np.array([[np.nan, 1.0]]), np.array([[1.5]]), np.array([[-1]]), np.zeros((0, 0)), "text",
        np.array([[2**40]]),
        np.array([["a", "b"]], object), np.array([[1e300]]), np.array([[1 + 2j]]), {"a": 1}, np.ones((3, 3, 3)),
        np.array([[0]]),
    ]  # fmt: skip
    new = rng.choice(odd)
    if new is None:
        held[name.upper()] = old
    else:
        held[name] = new
    if old.dtype.names and rng.random() < 0.7:
        changed = old.copy()
        at = rng.randrange(changed.size)
        field = rng.choice(old.dtype.names)
        changed.flat[at][field] = rng.choice(
            [np.nan, -1, "", "text", np.zeros((0, 0)), 10**18, np.array([[1, 2]]), "../x"]
        )
        held.pop(name.upper(), None)
        held[name] = changed
    out = io.BytesIO()
    savemat(out, held)
    return b"MATLAB 5.0 MAT-file".ljust(116) + out.getvalue()[116:]


@mutation("hdf5.values", honest=True)
def _hdf5(data: bytes, rng: random.Random) -> bytes | None:
    """A data set that is missing, of another type or shape, a group, a link, or holds no numbers."""
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.mat"
        file.write_bytes(data)
        try:
            with h5py.File(file, "r+") as opened:
                name = rng.choice(sorted(opened))
                old = opened[name][()]
                del opened[name]
                what = rng.randrange(9)
                if what == 1:
                    opened.create_group(name)
                elif what == 2:
                    opened[name] = h5py.SoftLink(f"/{name}")
                elif what == 3:
                    opened[name] = h5py.ExternalLink("/etc/hostname", "/x")
                elif what == 4:
                    opened[name] = old[:1]
                elif what == 5:
                    opened[name] = old.astype(np.float64) * np.nan
                elif what == 6:
                    opened[name] = "text"
                elif what == 7:
                    opened[name] = old.transpose()
                elif what == 8:
                    opened[name] = np.full(old.shape, b"x", "S1")
        except OSError:
            return None
        return file.read_bytes()


assert json.dumps({})
