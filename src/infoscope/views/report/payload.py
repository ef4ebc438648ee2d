"""The form in which data reaches the report's pages: scripts, since a browser refuses to fetch from ``file://``.

Every script is one call, ``infoscope.put(name, value)``. Numbers that are many go as base64 of their little-endian
bytes, which is a third of the size of their digits and needs no parsing.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float32, UInt16

# Our choice: digits of the numbers on a feature's page; tables have all of them.
DIGITS = 5
# Steps between 0 and the largest code of a pair's maps; 0 itself is kept for "no code".
LEVELS = 255
# Masses of a plan are in parts of this.
PARTS = 10_000


def script(name: str, value: Any) -> str:
    r"""The script that hands ``value`` to the page under ``name``.

    Example:
        >>> script("features/3", [1, None])
        'infoscope.put("features/3", [1,null]);\n'
    """
    return f"infoscope.put({json.dumps(name)}, {json.dumps(value, separators=(',', ':'), allow_nan=False)});\n"


def rounded(value: float | int | None) -> float | int | None:
    """A number with five digits, whole where it is; None for what is no number.

    Example:
        >>> [rounded(value) for value in (0.123456789, 12.0, float("nan"), None)]
        [0.12346, 12, None, None]
    """
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def packed_column(column: pl.Series) -> dict[str, str]:
    """A column as base64: ``f4`` with NaN for null, or ``u4`` with the largest number for null.

    Example:
        >>> packed_column(pl.Series([1.0, None]))
        {'type': 'f4', 'data': 'AACAPwAAwH8='}
    """
    if column.dtype == pl.UInt64:
        return {"type": "u4", "data": _base64(column.fill_null(2**32 - 1).cast(pl.UInt32).to_numpy().astype("<u4"))}
    values = column.cast(pl.Float32).fill_null(math.nan).to_numpy()
    return {"type": "f4", "data": _base64(values.astype("<f4"))}


def packed_map(patch: UInt16[np.ndarray, " entry"], value: Float32[np.ndarray, " entry"], largest: float) -> str:
    """A sparse map as base64, two bytes a patch: cells skipped since the last one, and 1 to 255 of ``largest``.

    A skip of 255 or more is written as 255 with level 0, as often as it takes, before the rest.

    Example:
        >>> base64.b64decode(packed_map(np.array([1, 4], np.uint16), np.array([2.0, 1.0], np.float32), 2.0)).hex(" ")
        '01 ff 02 80'
    """
    skipped = np.diff(patch.astype(np.int64), prepend=-1) - 1
    level = (
        np.maximum(np.rint(value * (LEVELS / largest)), 1).astype(np.uint8) if len(value) else value.astype(np.uint8)
    )
    if len(skipped) and skipped.max() >= LEVELS:
        pairs: list[int] = []
        for skip, step in zip(skipped.tolist(), level.tolist(), strict=True):
            far, near = divmod(skip, LEVELS)
            pairs += [LEVELS, 0] * far + [near, step]
        return _base64(np.array(pairs, np.uint8))
    return _base64(np.column_stack([skipped.astype(np.uint8), level]))


def packed_routes(source: np.ndarray, sink: np.ndarray, mass: np.ndarray) -> str:
    """Routes as base64, three 16-bit numbers each: from, to, and mass in parts of 10,000.

    Example:
        >>> base64.b64decode(packed_routes(np.array([3]), np.array([7]), np.array([0.5]))).hex(" ")
        '03 00 07 00 88 13'
    """
    return _base64(np.column_stack([source, sink, np.rint(mass * PARTS)]).astype("<u2"))


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
