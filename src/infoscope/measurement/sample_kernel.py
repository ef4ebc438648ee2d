"""The keys and the insertion behind `ActiveSample`."""

import numpy as np
from numba import prange

from infoscope.compilation import compiled


@compiled(parallel=True)
def _insert(
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
    _insert(kept_key, kept_image, kept_score, key, image, score, 256)
