"""Insertion into running lists of the strongest and of the lowest; numba compiles it."""

from __future__ import annotations

import numpy as np
from numba import prange

from infoscope.runtime.compilation import compiled


@compiled(parallel=True)
def _insert(best_score: np.ndarray, best_image: np.ndarray, score: np.ndarray, image: np.ndarray, chunk: int) -> None:
    images, features = score.shape
    ranks = best_score.shape[1]
    for block in prange((features + chunk - 1) // chunk):
        for row in range(images):
            for feature in range(block * chunk, min((block + 1) * chunk, features)):
                new = score[row, feature]
                if not new > 0.0 or new < best_score[feature, ranks - 1]:
                    continue
                index = image[row, feature]
                place = ranks
                while place > 0 and (
                    new > best_score[feature, place - 1]
                    or (new == best_score[feature, place - 1] and index < best_image[feature, place - 1])
                ):
                    place -= 1
                for rank in range(ranks - 1, place, -1):
                    best_score[feature, rank] = best_score[feature, rank - 1]
                    best_image[feature, rank] = best_image[feature, rank - 1]
                if place < ranks:
                    best_score[feature, place] = new
                    best_image[feature, place] = index


def insert(best_score: np.ndarray, best_image: np.ndarray, score: np.ndarray, image: np.ndarray) -> None:
    """Insert scores ``[image, feature]`` into the best ``[feature, rank]``, in place.

    Entries with a score of 0 or below are ignored; ties go to the lower image index.
    """
    # 256 features of float32 are 1 KiB of each row: long enough to stream, short enough to share out.
    _insert(best_score, best_image, score, image, 256)


@compiled(parallel=True)
def _insert_lowest(
    kept_key: np.ndarray,
    kept_image: np.ndarray,
    kept_score: np.ndarray,
    key: np.ndarray,
    image: np.ndarray,
    score: np.ndarray,
    chunk: int,
) -> None:
    images, features = score.shape
    slots = kept_key.shape[1]
    for block in prange((features + chunk - 1) // chunk):
        for row in range(images):
            for feature in range(block * chunk, min((block + 1) * chunk, features)):
                new = key[row, feature]
                if not score[row, feature] > 0.0 or new >= kept_key[feature, slots - 1]:
                    continue
                place = slots - 1
                while place > 0 and new < kept_key[feature, place - 1]:
                    kept_key[feature, place] = kept_key[feature, place - 1]
                    kept_image[feature, place] = kept_image[feature, place - 1]
                    kept_score[feature, place] = kept_score[feature, place - 1]
                    place -= 1
                kept_key[feature, place] = new
                kept_image[feature, place] = image[row, feature]
                kept_score[feature, place] = score[row, feature]


def insert_lowest(
    kept_key: np.ndarray,
    kept_image: np.ndarray,
    kept_score: np.ndarray,
    key: np.ndarray,
    image: np.ndarray,
    score: np.ndarray,
) -> None:
    """Insert ``[image, feature]`` into what is kept, ``[feature, slot]``, by ascending key, in place.

    Entries with a score of 0 or below are ignored.
    """
    _insert_lowest(kept_key, kept_image, kept_score, key, image, score, 256)
