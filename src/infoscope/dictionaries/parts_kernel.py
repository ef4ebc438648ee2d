"""The sum behind `infoscope.dictionaries.parts`, compiled; threads share out the tokens."""

from __future__ import annotations

import numpy as np
from numba import prange

from infoscope.runtime.compilation import compiled


@compiled(parallel=True)
def add_rows(
    start: np.ndarray,
    feature: np.ndarray,
    value: np.ndarray,
    member: np.ndarray,
    decoder: np.ndarray,
    total: np.ndarray,
) -> None:
    """Add code times decoder row to float32 ``total[token, width]``, of the features that are members.

    Each token by itself and in the order of its features, so that a sum depends on nothing else.
    """
    width = total.shape[1]
    for t in prange(len(total)):
        sums = total[t]
        for entry in range(start[t], start[t + 1]):
            j = feature[entry]
            if member[j]:
                code, row = value[entry], decoder[j]
                for i in range(width):
                    sums[i] += code * row[i]
