"""Insertion into running lists of the strongest images and of those with the lowest keys; numba compiles it."""

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
                new_rank = ranks
                while new_rank > 0 and (
                    new > best_score[feature, new_rank - 1]
                    or (new == best_score[feature, new_rank - 1] and index < best_image[feature, new_rank - 1])
                ):
                    new_rank -= 1
                for rank in range(ranks - 1, new_rank, -1):
                    best_score[feature, rank] = best_score[feature, rank - 1]
                    best_image[feature, rank] = best_image[feature, rank - 1]
                if new_rank < ranks:
                    best_score[feature, new_rank] = new
                    best_image[feature, new_rank] = index


def insert(best_score: np.ndarray, best_image: np.ndarray, score: np.ndarray, image: np.ndarray) -> None:
    """Insert scores ``[image, feature]`` into the best ``[feature, rank]``, in place.

    Entries with a score of 0 or below are ignored; ties go to the lower image index.
    """
    # 256 features of float32 are 1 KiB of each row: long enough to read in one stretch, short enough to share out.
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
                slot = slots - 1
                while slot > 0 and new < kept_key[feature, slot - 1]:
                    kept_key[feature, slot] = kept_key[feature, slot - 1]
                    kept_image[feature, slot] = kept_image[feature, slot - 1]
                    kept_score[feature, slot] = kept_score[feature, slot - 1]
                    slot -= 1
                kept_key[feature, slot] = new
                kept_image[feature, slot] = image[row, feature]
                kept_score[feature, slot] = score[row, feature]


def insert_lowest(
    kept_key: np.ndarray,
    kept_image: np.ndarray,
    kept_score: np.ndarray,
    key: np.ndarray,
    image: np.ndarray,
    score: np.ndarray,
) -> None:
    """Insert scores ``[image, feature]`` into the sample ``[feature, slot]``, by ascending key, in place.

    Entries with a score of 0 or below are ignored.
    """
    _insert_lowest(kept_key, kept_image, kept_score, key, image, score, 256)
