"""The k largest positive entries of each row, compiled.

Positive float32 numbers are ordered as their bits read as int32, and every other number reads as 0 or less. So the
whole search is on integers, for which maxima and counts over a row run in vector registers. Any value that k of the
maxima of blocks of eight reach is a lower bound of the k-th largest entry. Only blocks that reach it are read a second
time, and the exact bound is searched for among their entries.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from infoscope.runtime.compilation import compiled

# Measured: of 8, 16, 32 and 64, 8 was the fastest from 4,096 to 65,536 features.
BLOCK = 8
# Rows that share one thread's scratch space.
ROWS = 16


@njit(inline="always")
def reaching(values: np.ndarray, size: int, bound: int) -> int:
    """How many of the first ``size`` values are at least ``bound``."""
    count = np.int32(0)
    for i in range(size):
        count += np.int32(values[i] >= bound)
    return int(count)


@compiled()
def lower_bound(values: np.ndarray, size: int, bound: int, k: int, slack: int) -> int:
    """A bound that at least k values reach, and no more than k + slack unless they tie.

    At least k values must be known to reach ``bound``.
    """
    low = bound
    high = bound
    for i in range(size):
        high = max(high, values[i])
    while low < high:
        middle = low + (high - low + 1) // 2
        count = reaching(values, size, middle)
        if count >= k:
            low = middle
            if count <= k + slack:
                break
        else:
            high = middle - 1
    return low


@compiled()
def keep_largest(
    candidate_value: np.ndarray,
    candidate_feature: np.ndarray,
    candidates: int,
    bound: int,
    k: int,
    feature: np.ndarray,
    value: np.ndarray,
) -> int:
    """Write the k largest of some positive values and their features, in order, then 0; returns how many there are.

    Where there are more than k, at least k must be known to reach ``bound``. Values of 0 and less do not count.
    """
    least = 0
    ties = 0
    if candidates > k:
        least = lower_bound(candidate_value, candidates, bound, k, 0)
        ties = k - reaching(candidate_value, candidates, least + 1)
    kept = 0
    for i in range(candidates):
        if candidate_value[i] == least and ties > 0:
            ties -= 1
        elif candidate_value[i] <= least:
            continue
        feature[kept] = candidate_feature[i]
        value[kept] = candidate_value[i]
        kept += 1
    feature[kept:] = 0
    value[kept:] = 0
    return kept


@compiled(parallel=True)
def _select(bits: np.ndarray, first: int, k: int, feature: np.ndarray, value: np.ndarray, count: np.ndarray) -> None:
    rows, features = bits.shape
    blocks = features // BLOCK
    for stretch in prange((rows + ROWS - 1) // ROWS):
        peak = np.empty(blocks, np.int32)
        candidate_value = np.empty(k + features + 1, np.int32)
        candidate_feature = np.empty(k + features + 1, np.int32)
        for t in range(stretch * ROWS, min(rows, (stretch + 1) * ROWS)):
            row = bits[t]
            for block in range(blocks):
                most = np.int32(0)
                for j in range(block * BLOCK, (block + 1) * BLOCK):
                    most = max(most, row[j])
                peak[block] = most
            # What was kept of lower features comes first; once that is k, only a value above the least can enter.
            candidates = count[t]
            reached = 1
            for i in range(candidates):
                candidate_value[i] = value[t, i]
                candidate_feature[i] = feature[t, i]
            if candidates == k:
                reached = candidate_value[0]
                for i in range(1, k):
                    reached = min(reached, candidate_value[i])
            bound = reached + 1 if candidates == k else 1
            if reaching(peak, blocks, bound) > k:
                bound = lower_bound(peak, blocks, bound, k, k // 4)
                reached = bound
            # Every entry is written, and the next one overwrites what does not count: there is no branch to mispredict.
            for block in range(blocks):
                if peak[block] >= bound:
                    for j in range(block * BLOCK, (block + 1) * BLOCK):
                        candidate_value[candidates] = row[j]
                        candidate_feature[candidates] = first + j
                        candidates += int(row[j] >= bound)
            for j in range(blocks * BLOCK, features):
                candidate_value[candidates] = row[j]
                candidate_feature[candidates] = first + j
                candidates += int(row[j] >= bound)
            count[t] = keep_largest(candidate_value, candidate_feature, candidates, reached, k, feature[t], value[t])


Kept = tuple[np.ndarray, np.ndarray, np.ndarray]


def select_topk(pre: np.ndarray, k: int, first: int = 0, kept: Kept | None = None) -> Kept:
    """The k largest entries of each row that are positive.

    Args:
        pre: float32 ``[token, feature]``, rows contiguous, without NaN.
        k: how many to keep; if there are fewer features, all are kept.
        first: the feature of the first column.
        kept: what was kept of the features before; overwritten.

    Returns:
        feature: int32 ``[token, k]``, ascending within a token; of equal values the lower features are kept.
        value: float32 ``[token, k]``.
        count: int64 ``[token]``, how many are positive; both arrays are 0 from there on.
    """
    if kept is None:
        tokens = len(pre)
        kept = np.zeros((tokens, k), np.int32), np.zeros((tokens, k), np.float32), np.zeros(tokens, np.int64)
    feature, value, count = kept
    _select(pre.view(np.int32), first, k, feature, value.view(np.int32), count)
    return kept
