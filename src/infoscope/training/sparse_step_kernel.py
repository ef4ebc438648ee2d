"""The compiled part of `infoscope.training.sparse_step`, which has the algebra.

First decoding from sparse codes and its gradients. Features fall into nested prefixes of the dictionary, each with a
reconstruction of its own. Each thread owns tokens or features and adds in a fixed order, so that the result does not
depend on the number of threads.

Then the k largest codes of each token by way of rough pre-activations. Positive bfloat16 numbers are ordered as their
bits read as int16, so the search for candidates is on integers.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from infoscope.dictionaries.topk_kernel import keep_largest, lower_bound, reaching
from infoscope.runtime.compilation import compiled


@compiled(parallel=True)
def decode_prefixes(
    start: np.ndarray, feature: np.ndarray, value: np.ndarray, prefix: np.ndarray, W_dec: np.ndarray, total: np.ndarray
) -> None:
    """``total[p, t]`` becomes the sum of ``value W_dec[feature]`` over the codes of token t in prefix p."""
    prefixes, tokens, width = total.shape
    for t in prange(tokens):
        for p in range(prefixes):
            total[p, t] = 0
        for entry in range(start[t], start[t + 1]):
            f = feature[entry]
            code = value[entry]
            row = total[prefix[f], t]
            direction = W_dec[f]
            for i in range(width):
                row[i] += code * direction[i]
        # So far each row holds what its prefix adds to the one before.
        for p in range(1, prefixes):
            for i in range(width):
                total[p, t, i] += total[p - 1, t, i]


@compiled(parallel=True, fastmath={"reassoc", "contract", "nsz"})
def code_gradients(
    start: np.ndarray,
    feature: np.ndarray,
    prefix: np.ndarray,
    W_dec: np.ndarray,
    gradient: np.ndarray,
    of_code: np.ndarray,
) -> None:
    """``of_code[entry] = gradient[p, t] . W_dec[feature[entry]]``, p the smallest prefix that holds the feature."""
    _, tokens, width = gradient.shape
    for t in prange(tokens):
        for entry in range(start[t], start[t + 1]):
            f = feature[entry]
            above = gradient[prefix[f], t]
            direction = W_dec[f]
            product = np.float32(0)
            for i in range(width):
                product += above[i] * direction[i]
            of_code[entry] = product


@compiled()
def _by_feature(start: np.ndarray, feature: np.ndarray, features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The codes in the order of features, then tokens: row pointers, and the entry and token of each."""
    begin = np.zeros(features + 1, np.int64)
    for f in feature:
        begin[f + 1] += 1
    for f in range(features):
        begin[f + 1] += begin[f]
    ordered = np.empty(len(feature), np.int64)
    token = np.empty(len(feature), np.int64)
    filled = begin.copy()
    for t in range(len(start) - 1):
        for entry in range(start[t], start[t + 1]):
            f = feature[entry]
            ordered[filled[f]] = entry
            token[filled[f]] = t
            filled[f] += 1
    return begin, ordered, token


@compiled(parallel=True)
def weight_gradients(
    start: np.ndarray,
    feature: np.ndarray,
    value: np.ndarray,
    of_code: np.ndarray,
    prefix: np.ndarray,
    gradient: np.ndarray,
    tokens: np.ndarray,
    of_W_dec: np.ndarray,
    of_W_enc: np.ndarray,
    of_b_enc: np.ndarray,
) -> None:
    """Sum the gradients of the decoder rows, the encoder rows and the encoder bias over the tokens, by feature."""
    features, width = of_W_dec.shape
    begin, entry, token = _by_feature(start, feature, features)
    for f in prange(features):
        decoder = of_W_dec[f]
        encoder = of_W_enc[f]
        decoder[:] = 0
        encoder[:] = 0
        bias = np.float32(0)
        for i in range(begin[f], begin[f + 1]):
            code = value[entry[i]]
            slope = of_code[entry[i]]
            above = gradient[prefix[f], token[i]]
            for j in range(width):
                decoder[j] += code * above[j]
            row = tokens[token[i]]
            for j in range(width):
                encoder[j] += slope * row[j]
            bias += slope
        of_b_enc[f] = bias


# Features to a block; fewer where there would otherwise be less than so many blocks for each of the k.
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
    # A block is every ``blocks``-th feature, so that maxima of neighbouring blocks are taken in one vector register.
    blocks = min(features, max(-(-features // BLOCK), BLOCKS_EACH * k))
    for stretch in prange((rows + ROWS - 1) // ROWS):
        peak = np.empty(blocks, np.int16)
        hit = np.empty(blocks + 1, np.int32)
        candidate_feature = np.empty(features + 1, np.int32)
        candidate_value = np.empty(features + 1, np.float32)
        for t in range(stretch * ROWS, min(rows, (stretch + 1) * ROWS)):
            row = rough[t]
            peak[:] = 0
            for first in range(0, features, blocks):
                # A slice, because an index that might be negative would keep the loop out of vector registers.
                part = row[first : first + blocks]
                for i in range(len(part)):
                    peak[i] = max(peak[i], part[i])
            count[t] = -1
            if reaching(peak, blocks, 1) < k:
                continue
            # k rough codes are at least this large, so that no code below it by twice the error is among the k largest.
            reached = _number(lower_bound(peak, blocks, 1, k, k // 4))
            least = (reached * (1 - ROUNDING) - 2 * error[t]) * (1 - ROUNDING)
            # Below 0 the order of the bits is reversed, and infinities and NaN bound nothing.
            if not (least > 0 and np.isfinite(reached)):
                continue
            bound = np.int16(np.float32(least).view(np.uint32) >> 16)
            # Everything is written, and the next one overwrites what does not count: there is no branch to mispredict.
            hits = 0
            for i in range(blocks):
                hit[hits] = i
                hits += int(peak[i] >= bound)
            candidates = 0
            for first in range(0, features, blocks):
                part = row[first : first + blocks]
                for h in range(hits):
                    if hit[h] < len(part):
                        candidate_feature[candidates] = first + hit[h]
                        candidates += int(part[hit[h]] >= bound)
            for i in range(candidates):
                f = candidate_feature[i]
                candidate_value[i] = _product(tokens[t], encoder[f]) + encoder_bias[f]
            count[t] = keep_largest(
                candidate_value.view(np.int32), candidate_feature, candidates, 1, k, feature[t], value[t].view(np.int32)
            )


@compiled(parallel=True, fastmath={"reassoc", "contract", "nsz"})
def round_rows(
    values: np.ndarray, last: np.ndarray, bits: np.ndarray, length: np.ndarray, rounding: np.ndarray
) -> None:
    """Round rows, and one more number each, to the nearest bfloat16, ties to even; the rest of a row becomes 0.

    Args:
        values: float32 ``[row, width]``.
        last: float32 ``[row]``.
        bits: result, uint16 ``[row, more than width]``.
        length: result, of each row before it is rounded, squared.
        rounding: result, of the difference that rounding makes, squared.
    """
    rows, width = values.shape
    for r in prange(rows):
        squares = np.float32(0)
        errors = np.float32(0)
        for i in range(width + 1):
            value = values[r, i] if i < width else last[r]
            exact = np.float32(value).view(np.uint32)
            rounded = (exact + np.uint32(0x7FFF) + ((exact >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            bits[r, i] = np.uint16(rounded)
            error = value - np.uint32(rounded << np.uint32(16)).view(np.float32)
            squares += value * value
            errors += error * error
        bits[r, width + 1 :] = 0
        length[r] = squares
        rounding[r] = errors
