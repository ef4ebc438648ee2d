"""Images spread over the quantiles of each feature's activation (method, section 4), found in one pass."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float32, Int64, UInt64

from infoscope.execution.partials import Arrays
from infoscope.measurement.ranking import Ranking
from infoscope.measurement.sample_kernel import insert_lowest

# Our choice: a quantile of a sample of four times k = 16 is off by 6 percentage points at most (one standard
# deviation), about what lies between two of sixteen quantiles.
KEPT_PER_IMAGE = 4

_NONE = np.iinfo(np.uint64).max


@dataclass(frozen=True)
class ActiveSample:
    """A uniform sample of the images each feature is active on, with their scores.

    Every image has a pseudo-random key that depends on its index and the seed alone, and a feature keeps the active
    images of the lowest keys. Which these are does not depend on the order in which images come, nor on how they are
    split, so samples merge exactly; and which they are does not depend on their scores, so the sample is uniform over
    the active images. Where a feature is active on no more images than are kept, it is all of them. Keys are the same
    for every feature: features that are active on most images keep much the same ones, so that few are passed over
    again.

    Attributes:
        key: ``[feature, slot]``, ascending; the largest number where there is no image.
        image: ``[feature, slot]``, -1 where there is none.
        score: ``[feature, slot]``, the ranking score; 0 where there is none.

    Example:
        >>> sample = ActiveSample.empty(features=1, slots=2)
        >>> sample.update(np.arange(4), np.float32([[1.0], [0.0], [2.0], [3.0]]), seed=0)
        >>> sorted(sample.image[0].tolist())                  # two of the three images with a score above 0
        [0, 3]
    """

    key: UInt64[np.ndarray, "feature slot"]
    image: Int64[np.ndarray, "feature slot"]
    score: Float32[np.ndarray, "feature slot"]

    @classmethod
    def empty(cls, features: int, slots: int) -> ActiveSample:
        """A sample of no images."""
        shape = features, slots
        return cls(np.full(shape, _NONE, np.uint64), np.full(shape, -1, np.int64), np.zeros(shape, np.float32))

    def update(
        self, index: Int64[np.ndarray, " image"], score: Float32[np.ndarray, "image feature"], seed: int
    ) -> None:
        """Take in some images; none may have been seen before."""
        key, image = (np.broadcast_to(row[:, None], score.shape) for row in (keys(index, seed), index))
        insert_lowest(self.key, self.image, self.score, key, image, score)

    def merge(self, other: ActiveSample) -> None:
        """Take in all that another sample of the same seed has seen; the two must have seen different images."""
        insert_lowest(self.key, self.image, self.score, other.key.T, other.image.T, other.score.T)

    def spread(self, count: int) -> Ranking:
        """Of each feature ``count`` images, one from each of so many equal parts of its sample, strongest first.

        The part's middle is taken: of n images in order of their scores, those at places floor((i + 1/2) n / count).
        With fewer than ``count`` images all are.
        """
        order = np.lexsort((self.image, -self.score), axis=-1)
        score, image = (np.take_along_axis(values, order, axis=1) for values in (self.score, self.image))
        known = (image >= 0).sum(1)[:, None]
        rank = np.arange(min(count, image.shape[1]))
        place = np.where(known < count, rank, (2 * rank + 1) * known // (2 * count))
        there = place < known
        place = np.where(there, place, 0)
        found = Ranking.empty(len(image), len(rank))
        found.image[:] = np.where(there, np.take_along_axis(image, place, axis=1), -1)
        found.score[:] = np.where(there, np.take_along_axis(score, place, axis=1), 0)
        return found

    def arrays(self) -> Arrays:
        """As named arrays."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def keys(index: Int64[np.ndarray, " image"], seed: int) -> UInt64[np.ndarray, " image"]:
    """A number for each image that looks random: SplitMix64 (Steele, Lea and Flood 2014) of the index and the seed.

    Example:
        >>> keys(np.arange(3), seed=0) // np.uint64(2**60)    # their highest four bits
        array([10,  0, 13], dtype=uint64)
    """
    start = _mixed(np.array([seed], np.uint64))
    return _mixed(index.astype(np.uint64) ^ start)


def _mixed(value: np.ndarray) -> np.ndarray:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = value ^ (value >> np.uint64(31))
    return mixed
