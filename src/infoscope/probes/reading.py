"""Features read from arrays that need not fit into memory: in order, or mixed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from jaxtyping import Float16, Float32, Int64

from infoscope.errors import InfoscopeError

Rows: TypeAlias = Float32[np.ndarray, "_ _"] | Float16[np.ndarray, "_ _"]
# Of any number of rows, since one signature may have several.
Index: TypeAlias = Int64[np.ndarray, " _"]

# Rows to a product. Fixed, since sums of float32 depend on where they are cut: no result may depend on a setting.
BATCH_ROWS = 4096
# Bytes that are read in one go when rows are mixed; our choice: long enough not to wait for a disk's seeks.
STRETCH_BYTES = 256 * 1024


def in_order(
    rows: Rows, index: Index, size: int = BATCH_ROWS
) -> Iterator[tuple[Float32[np.ndarray, "row feature"], Index]]:
    """Some rows as float32, a batch at a time.

    Args:
        rows: all rows, an array or a memmap.
        index: which of them, ascending.
        size: rows to a batch.

    Yields:
        The batch's rows, and which they are.

    Raises:
        InfoscopeError: a row has a value that is not finite.

    Example:
        >>> rows = np.arange(10, dtype=np.float32).reshape(5, 2)
        >>> [batch[:, 0].tolist() for batch, _ in in_order(rows, np.array([0, 2, 4]), size=2)]
        [[0.0, 4.0], [8.0]]
    """
    for start in range(0, len(index), size):
        some = index[start : start + size]
        # Neighbours are read as one stretch, which is many times as fast from a disk as row by row.
        stretch = len(some) > 0 and some[-1] - some[0] == len(some) - 1
        batch = rows[some[0] : some[-1] + 1] if stretch else rows[some]
        yield checked(np.asarray(batch, dtype=np.float32), some), some


def mixed(
    rows: Rows, index: Index, size: int, window: int, seed: tuple[int, ...]
) -> Iterator[tuple[Float32[np.ndarray, "row feature"], Index]]:
    """All of some rows once, in random order, in batches of equal size; what is left over after the last is dropped.

    Where there are more rows than a window holds, stretches of neighbours are drawn at random until the window is full
    and are mixed in it. So the disk is read in stretches, and memory holds one window.

    Args:
        rows: all rows, an array or a memmap.
        index: which of them, ascending.
        size: rows to a batch.
        window: rows that are held and mixed.
        seed: decides the order.

    Yields:
        The batch's rows as float32, and which they are.

    Raises:
        InfoscopeError: a row has a value that is not finite.

    Example:
        >>> rows = np.arange(8, dtype=np.float32).reshape(8, 1)
        >>> batches = list(mixed(rows, np.arange(8), size=4, window=8, seed=(0,)))
        >>> sorted(np.concatenate([batch for batch, _ in batches]).ravel().tolist())
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    """
    random = np.random.default_rng(seed)
    if len(index) <= window:
        order = random.permutation(len(index))
        for start in range(0, len(order) - size + 1, size):
            some = index[order[start : start + size]]
            yield checked(np.asarray(rows[some], dtype=np.float32), some), some
        return
    length = max(1, STRETCH_BYTES // (rows.itemsize * rows.shape[1]))
    stretches = random.permutation(-(-len(index) // length))
    held: list[Index] = []
    left = np.zeros(0, np.int64)
    for at, stretch in enumerate(stretches):
        held.append(index[stretch * length : (stretch + 1) * length])
        full = sum(map(len, held)) + len(left) >= window
        if not full and at + 1 < len(stretches):
            continue
        which = np.concatenate([left, *held])
        held = []
        read = np.concatenate([rows[part[0] : part[-1] + 1][part - part[0]] for part in _neighbours(which)])
        order = random.permutation(len(which))
        whole = len(order) // size * size
        for start in range(0, whole, size):
            some = order[start : start + size]
            yield checked(np.asarray(read[some], dtype=np.float32), which[some]), which[some]
        left = np.sort(which[order[whole:]])


def checked(batch: Float32[np.ndarray, "row feature"], which: Index) -> Float32[np.ndarray, "row feature"]:
    """The batch itself.

    Raises:
        InfoscopeError: it has a value that is not finite.
    """
    # A sum is not finite if any part is not, and is many times as fast as asking each value.
    if not np.isfinite(batch.sum(dtype=np.float64)):
        wrong = which[~np.isfinite(batch).all(1)]
        if len(wrong):
            raise InfoscopeError(
                f"the features of row {wrong[0]} hold NaN or infinity ({len(wrong)} of {len(which)} rows read together "
                "do): extract them anew, with --feature-type float32 where float16 overflows"
            )
    return batch


def _neighbours(which: Index) -> list[Index]:
    """The index cut wherever it does not go on with the next few rows."""
    cuts = np.flatnonzero((np.diff(which) < 1) | (np.diff(which) > 8)) + 1
    return np.split(which, cuts)
