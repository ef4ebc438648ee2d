"""The scans behind `infoscope.dictionaries.sparse`, compiled; each shares rows or images out to threads."""

from __future__ import annotations

import numpy as np
from numba import prange

from infoscope.compilation import compiled


@compiled(parallel=True)
def _count_positive(pre: np.ndarray) -> np.ndarray:
    tokens, features = pre.shape
    count = np.empty(tokens, np.int64)
    for t in prange(tokens):
        row = pre[t]
        positive = 0
        for j in range(features):
            positive += int(row[j] > 0)
        count[t] = positive
    return count


@compiled(parallel=True)
def _fill_positive(pre: np.ndarray, start: np.ndarray, feature: np.ndarray, value: np.ndarray) -> None:
    tokens, features = pre.shape
    for t in prange(tokens):
        row = pre[t]
        entry = start[t]
        for j in range(features):
            if row[j] > 0:
                feature[entry] = j
                value[entry] = row[j]
                entry += 1


def positive_entries(pre: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The positive entries of float32 ``[token, feature]``.

    Returns:
        count: int64 ``[token]``.
        feature: int32 ``[entry]``, token by token, ascending within one.
        value: float32 ``[entry]``.
    """
    count = _count_positive(pre)
    end = np.cumsum(count)
    entries = int(end[-1]) if len(end) else 0
    feature = np.empty(entries, np.int32)
    value = np.empty(entries, np.float32)
    _fill_positive(pre, end - count, feature, value)
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
