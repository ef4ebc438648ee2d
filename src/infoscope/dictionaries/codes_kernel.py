"""Scans over codes, compiled: selection above a bound, reductions over images, and sums of decoder rows.

Threads share out tokens, images or features, so that no sum depends on how many threads there are.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from infoscope.runtime.compilation import compiled

# Features to a thread's stretch of dense codes: a row of them and what it is reduced to stay in the nearest cache.
BLOCK = 1024


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
    """Add codes of tokens to float64 ``total[image, feature]``, and count them, as `add_maximum` does."""
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


@compiled(parallel=True)
def add_rows(
    start: np.ndarray,
    feature: np.ndarray,
    value: np.ndarray,
    member: np.ndarray,
    decoder: np.ndarray,
    total: np.ndarray,
) -> None:
    """Add code times decoder row to float32 ``total[token, width]``, for the features that are members.

    Each token is summed by itself and in the order of its features, so that its sum depends on nothing else.
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
