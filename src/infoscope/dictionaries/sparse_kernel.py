"""The scans behind `infoscope.dictionaries.sparse`, compiled; each shares rows or images out to threads."""

from __future__ import annotations

import numpy as np
from numba import prange

from infoscope.runtime.compilation import compiled


@compiled(parallel=True)
def _count_above(pre: np.ndarray, bound: np.float32) -> np.ndarray:
    tokens, features = pre.shape
    count = np.empty(tokens, np.int64)
    for t in prange(tokens):
        row = pre[t]
        above = 0
        for j in range(features):
            above += int(row[j] > bound)
        count[t] = above
    return count


@compiled(parallel=True)
def _fill_above(pre: np.ndarray, bound: np.float32, start: np.ndarray, feature: np.ndarray, value: np.ndarray) -> None:
    tokens, features = pre.shape
    for t in prange(tokens):
        row = pre[t]
        entry = start[t]
        for j in range(features):
            if row[j] > bound:
                feature[entry] = j
                value[entry] = row[j]
                entry += 1


def entries_above(pre: np.ndarray, bound: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The entries of float32 ``[token, feature]`` above a bound.

    Returns:
        count: int64 ``[token]``.
        feature: int32 ``[entry]``, token by token, ascending within one.
        value: float32 ``[entry]``.
    """
    count = _count_above(pre, np.float32(bound))
    end = np.cumsum(count)
    entries = int(end[-1]) if len(end) else 0
    feature = np.empty(entries, np.int32)
    value = np.empty(entries, np.float32)
    _fill_above(pre, np.float32(bound), end - count, feature, value)
    return count, feature, value


@compiled(parallel=True)
def image_maximum(start: np.ndarray, feature: np.ndarray, value: np.ndarray, patches: int, reduced: np.ndarray) -> None:
    """Raise each entry of ``reduced``, float32 ``[image, feature]`` and 0 before, to the image's largest code."""
    for image in prange(len(reduced)):
        row = reduced[image]
        for entry in range(start[image * patches], start[(image + 1) * patches]):
            row[feature[entry]] = max(row[feature[entry]], value[entry])


@compiled(parallel=True)
def image_sum(
    start: np.ndarray, feature: np.ndarray, value: np.ndarray, patches: int, divisor: float, reduced: np.ndarray
) -> None:
    """Write the sums of each image's codes, made in float64, over ``divisor`` into float32 ``[image, feature]``."""
    features = reduced.shape[1]
    for image in prange(len(reduced)):
        total = np.zeros(features)
        for entry in range(start[image * patches], start[(image + 1) * patches]):
            total[feature[entry]] += value[entry]
        for j in range(features):
            reduced[image, j] = total[j] / divisor
