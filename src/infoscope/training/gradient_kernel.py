"""Decoding from sparse codes, and the gradients of it, compiled; `infoscope.training.sparse_step` has the algebra.

Features fall into groups, nested prefixes of the dictionary, each with a reconstruction of its own. Each thread owns
tokens, or features, and adds in a fixed order: the result does not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from infoscope.runtime.compilation import compiled


@compiled(parallel=True)
def decode_groups(
    start: np.ndarray, feature: np.ndarray, value: np.ndarray, group: np.ndarray, W_dec: np.ndarray, total: np.ndarray
) -> None:
    """``total[g, t]`` becomes the sum of ``value W_dec[feature]`` over the codes of token t in groups 0 to g."""
    groups, tokens, width = total.shape
    for t in prange(tokens):
        for g in range(groups):
            total[g, t] = 0
        for entry in range(start[t], start[t + 1]):
            f = feature[entry]
            code = value[entry]
            row = total[group[f], t]
            direction = W_dec[f]
            for i in range(width):
                row[i] += code * direction[i]
        for g in range(1, groups):
            for i in range(width):
                total[g, t, i] += total[g - 1, t, i]


@compiled(parallel=True, fastmath={"reassoc", "contract", "nsz"})
def code_gradients(
    start: np.ndarray,
    feature: np.ndarray,
    group: np.ndarray,
    W_dec: np.ndarray,
    gradient: np.ndarray,
    of_code: np.ndarray,
) -> None:
    """``of_code[entry] = gradient[g, t] . W_dec[feature[entry]]``, g the feature's group."""
    _, tokens, width = gradient.shape
    for t in prange(tokens):
        for entry in range(start[t], start[t + 1]):
            f = feature[entry]
            above = gradient[group[f], t]
            direction = W_dec[f]
            product = np.float32(0)
            for i in range(width):
                product += above[i] * direction[i]
            of_code[entry] = product


@compiled()
def _by_feature(start: np.ndarray, feature: np.ndarray, features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The codes ordered by feature, then token: row pointers, and each one's entry and token."""
    begin = np.zeros(features + 1, np.int64)
    for f in feature:
        begin[f + 1] += 1
    for f in range(features):
        begin[f + 1] += begin[f]
    place = np.empty(len(feature), np.int64)
    token = np.empty(len(feature), np.int64)
    filled = begin.copy()
    for t in range(len(start) - 1):
        for entry in range(start[t], start[t + 1]):
            f = feature[entry]
            place[filled[f]] = entry
            token[filled[f]] = t
            filled[f] += 1
    return begin, place, token


@compiled(parallel=True)
def _weight_gradients(
    begin: np.ndarray,
    place: np.ndarray,
    token: np.ndarray,
    value: np.ndarray,
    of_code: np.ndarray,
    group: np.ndarray,
    gradient: np.ndarray,
    tokens: np.ndarray,
    of_W_dec: np.ndarray,
    of_W_enc: np.ndarray,
    of_b_enc: np.ndarray,
) -> None:
    features, width = of_W_dec.shape
    for f in prange(features):
        decoder = of_W_dec[f]
        encoder = of_W_enc[f]
        decoder[:] = 0
        encoder[:] = 0
        bias = np.float32(0)
        for i in range(begin[f], begin[f + 1]):
            code = value[place[i]]
            slope = of_code[place[i]]
            above = gradient[group[f], token[i]]
            for j in range(width):
                decoder[j] += code * above[j]
            row = tokens[token[i]]
            for j in range(width):
                encoder[j] += slope * row[j]
            bias += slope
        of_b_enc[f] = bias


def weight_gradients(
    start: np.ndarray,
    feature: np.ndarray,
    value: np.ndarray,
    of_code: np.ndarray,
    group: np.ndarray,
    gradient: np.ndarray,
    tokens: np.ndarray,
    of_W_dec: np.ndarray,
    of_W_enc: np.ndarray,
    of_b_enc: np.ndarray,
) -> None:
    """Sum what the tokens say about the decoder rows, the encoder rows and the encoder bias, feature by feature."""
    begin, place, token = _by_feature(start, feature, len(of_b_enc))
    _weight_gradients(begin, place, token, value, of_code, group, gradient, tokens, of_W_dec, of_W_enc, of_b_enc)
