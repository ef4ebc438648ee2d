"""Reductions over images of dense codes, in one reading of them; threads share out the features."""

from __future__ import annotations

import numpy as np
from numba import prange

from infoscope.runtime.compilation import compiled

# Features to a thread's stretch: a row of them and what it is reduced to stay in the nearest cache.
BLOCK = 1024


@compiled(parallel=True)
def add_maximum(
    codes: np.ndarray, first: int, patches: int, offset: int, reduced: np.ndarray, active: np.ndarray
) -> None:
    """Raise float32 ``reduced[image, feature]`` to codes of tokens from ``first`` on, and count those above 0.

    The first column is feature ``offset``.
    """
    tokens, features = codes.shape
    for block in prange((features + BLOCK - 1) // BLOCK):
        start, end = block * BLOCK, min((block + 1) * BLOCK, features)
        count = active[offset + start : offset + end]
        for t in range(tokens):
            row = codes[t, start:end]
            most = reduced[(first + t) // patches, offset + start : offset + end]
            for j in range(end - start):
                most[j] = max(most[j], row[j])
                count[j] += np.int32(row[j] > 0)


@compiled(parallel=True)
def add_sum(codes: np.ndarray, first: int, patches: int, offset: int, total: np.ndarray, active: np.ndarray) -> None:
    """The same with sums, in float64."""
    tokens, features = codes.shape
    for block in prange((features + BLOCK - 1) // BLOCK):
        start, end = block * BLOCK, min((block + 1) * BLOCK, features)
        count = active[offset + start : offset + end]
        for t in range(tokens):
            row = codes[t, start:end]
            sums = total[(first + t) // patches, offset + start : offset + end]
            for j in range(end - start):
                sums[j] += np.float64(row[j])
                count[j] += np.int32(row[j] > 0)
