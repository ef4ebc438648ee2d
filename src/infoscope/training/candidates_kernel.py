"""The k largest codes of each token by way of rough pre-activations, compiled (`infoscope.training.sparse_step`).

Positive bfloat16 numbers are ordered as their bits read as int16, so the search for candidates is on integers.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from infoscope.dictionaries.topk_kernel import keep_largest, lower_bound, reaching
from infoscope.runtime.compilation import compiled

# Features of a block, but fewer where there would be less than so many blocks for each of the k.
BLOCK = 16
BLOCKS_EACH = 8
# Rows that share one thread's scratch space.
ROWS = 16
# Half the distance of neighbouring bfloat16 numbers, relative to them, and room for float32's own rounding.
ROUNDING = np.float32(2.0**-8 + 2.0**-15)


@njit(inline="always")
def _number(bits: int) -> np.float32:
    """The number that the upper half of a float32 stands for."""
    return np.uint32(bits << 16).view(np.float32)


@njit(fastmath={"reassoc", "contract", "nsz"})
def _product(one: np.ndarray, other: np.ndarray) -> np.float32:
    total = np.float32(0)
    for i in range(len(one)):
        total += one[i] * other[i]
    return total


@compiled(parallel=True)
def select_candidates(
    rough: np.ndarray,
    error: np.ndarray,
    tokens: np.ndarray,
    encoder: np.ndarray,
    encoder_bias: np.ndarray,
    k: int,
    feature: np.ndarray,
    value: np.ndarray,
    count: np.ndarray,
) -> None:
    """The k largest positive codes of each token, as `select_topk` gives them; ``count`` is -1 where it cannot tell.

    Args:
        rough: bits of bfloat16 ``[token, feature]``.
        error: how far an entry may be from the exact one before it was rounded to bfloat16, ``[token]``.
        tokens: ``[token, width]``.
        encoder: ``[feature, width]``.
        encoder_bias: ``[feature]``.
        k: how many to keep, no more than there are features.
        feature: result, int32 ``[token, k]``.
        value: result, float32 ``[token, k]``.
        count: result, ``[token]``.
    """
    rows, features = rough.shape
    # A block is every so many-th feature, so that maxima of neighbouring blocks are taken in one vector register.
    blocks = min(features, max(-(-features // BLOCK), BLOCKS_EACH * k))
    for group in prange((rows + ROWS - 1) // ROWS):
        peak = np.empty(blocks, np.int16)
        hit = np.empty(blocks + 1, np.int32)
        found_feature = np.empty(features + 1, np.int32)
        found_value = np.empty(features + 1, np.float32)
        for t in range(group * ROWS, min(rows, (group + 1) * ROWS)):
            row = rough[t]
            peak[:] = 0
            for first in range(0, features, blocks):
                # A slice, since an index that might be negative keeps the loop out of vector registers.
                part = row[first : first + blocks]
                for i in range(len(part)):
                    peak[i] = max(peak[i], part[i])
            count[t] = -1
            if reaching(peak, blocks, 1) < k:
                continue
            # k codes are at least this large, so none below it less twice the error is among the k largest.
            reached = _number(lower_bound(peak, blocks, 1, k, k // 4))
            least = (reached * (1 - ROUNDING) - 2 * error[t]) * (1 - ROUNDING)
            # Not through 0, below which the order of the bits is the other way round; nor infinities and NaN.
            if not (least > 0 and np.isfinite(reached)):
                continue
            bound = np.int16(np.float32(least).view(np.uint32) >> 16)
            # Everything is written, and the next overwrites it unless it counts: no branch to mispredict.
            hits = 0
            for i in range(blocks):
                hit[hits] = i
                hits += int(peak[i] >= bound)
            found = 0
            for first in range(0, features, blocks):
                part = row[first : first + blocks]
                for h in range(hits):
                    if hit[h] < len(part):
                        found_feature[found] = first + hit[h]
                        found += int(part[hit[h]] >= bound)
            for i in range(found):
                f = found_feature[i]
                found_value[i] = _product(tokens[t], encoder[f]) + encoder_bias[f]
            count[t] = keep_largest(
                found_value.view(np.int32), found_feature, found, 1, k, feature[t], value[t].view(np.int32)
            )


@compiled(parallel=True, fastmath={"reassoc", "contract", "nsz"})
def round_rows(
    values: np.ndarray, last: np.ndarray, bits: np.ndarray, length: np.ndarray, rounding: np.ndarray
) -> None:
    """Round rows and one more number each to bfloat16, to the nearest, ties to even; the rest of a row becomes 0.

    Args:
        values: float32 ``[row, width]``.
        last: float32 ``[row]``.
        bits: result, uint16 ``[row, more than width]``.
        length: result, of each row before it is rounded, squared.
        rounding: result, of the difference that rounding makes, squared.
    """
    rows, width = values.shape
    for r in prange(rows):
        whole = np.float32(0)
        lost = np.float32(0)
        for i in range(width + 1):
            value = values[r, i] if i < width else last[r]
            exact = np.float32(value).view(np.uint32)
            kept = (exact + np.uint32(0x7FFF) + ((exact >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            bits[r, i] = np.uint16(kept)
            gone = value - np.uint32(kept << np.uint32(16)).view(np.float32)
            whole += value * value
            lost += gone * gone
        bits[r, width + 1 :] = 0
        length[r] = whole
        rounding[r] = lost
