"""Gradients of a TopK reconstruction from k codes a token, compiled; `infoscope.training.topk` has the algebra.

Each thread owns tokens, or features, and adds in a fixed order: the result does not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from infoscope.compilation import compiled


@compiled(parallel=True, fastmath={"reassoc", "contract", "nsz"})
def code_gradients(
    feature: np.ndarray, value: np.ndarray, W_dec: np.ndarray, gradient: np.ndarray, of_code: np.ndarray
) -> None:
    """``of_code[t, j] = gradient[t] . W_dec[feature[t, j]]`` where the code is above 0, else 0."""
    tokens, k = feature.shape
    width = W_dec.shape[1]
    for t in prange(tokens):
        above = gradient[t]
        for j in range(k):
            product = np.float32(0)
            if value[t, j] > 0:
                direction = W_dec[feature[t, j]]
                for i in range(width):
                    product += above[i] * direction[i]
            of_code[t, j] = product


@compiled()
def _by_feature(feature: np.ndarray, value: np.ndarray, features: int) -> tuple[np.ndarray, np.ndarray]:
    """The positive codes ordered by feature, then token: row pointers, and places ``t k + j``."""
    tokens, k = feature.shape
    start = np.zeros(features + 1, np.int64)
    for t in range(tokens):
        for j in range(k):
            if value[t, j] > 0:
                start[feature[t, j] + 1] += 1
    for f in range(features):
        start[f + 1] += start[f]
    place = np.empty(start[features], np.int64)
    filled = start.copy()
    for t in range(tokens):
        for j in range(k):
            if value[t, j] > 0:
                f = feature[t, j]
                place[filled[f]] = t * k + j
                filled[f] += 1
    return start, place


@compiled(parallel=True)
def _weight_gradients(
    start: np.ndarray,
    place: np.ndarray,
    value: np.ndarray,
    of_code: np.ndarray,
    gradient: np.ndarray,
    tokens: np.ndarray,
    of_W_dec: np.ndarray,
    of_W_enc: np.ndarray,
    of_b_enc: np.ndarray,
) -> None:
    features, width = of_W_dec.shape
    k = value.shape[1]
    for f in prange(features):
        decoder = of_W_dec[f]
        encoder = of_W_enc[f]
        decoder[:] = 0
        encoder[:] = 0
        bias = np.float32(0)
        for entry in range(start[f], start[f + 1]):
            t, j = divmod(place[entry], k)
            code = value[t, j]
            above = gradient[t]
            for i in range(width):
                decoder[i] += code * above[i]
            slope = of_code[t, j]
            token = tokens[t]
            for i in range(width):
                encoder[i] += slope * token[i]
            bias += slope
        of_b_enc[f] = bias


def weight_gradients(
    feature: np.ndarray,
    value: np.ndarray,
    of_code: np.ndarray,
    gradient: np.ndarray,
    tokens: np.ndarray,
    of_W_dec: np.ndarray,
    of_W_enc: np.ndarray,
    of_b_enc: np.ndarray,
) -> None:
    """Sum what the tokens say about the decoder rows, the encoder rows and the encoder bias, feature by feature."""
    start, place = _by_feature(feature, value, len(of_b_enc))
    _weight_gradients(start, place, value, of_code, gradient, tokens, of_W_dec, of_W_enc, of_b_enc)
