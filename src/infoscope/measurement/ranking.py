"""Pass 1: each feature's strongest images, merged shard by shard in any order to the same answer."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np
from jaxtyping import Float32, Int64, UInt64

from infoscope.dictionaries.fvu import FitSums
from infoscope.measurement.maps import ImageMaps
from infoscope.measurement.ranking_kernel import insert, insert_lowest
from infoscope.runtime.partials import Arrays


@dataclass(frozen=True)
class Ranking:
    """The k strongest images of each feature among those seen, and what was seen.

    The order is total, score first and lower image index second, so neither the order of arrival nor the way images
    were split between rankings can change the result. An image with score 0 is never in it.

    Attributes:
        score: ``[feature, rank]``, descending; 0 where there is no image.
        image: ``[feature, rank]``, index of the image; -1 where there is none.
        images_active: ``[feature]``, images with a score above 0.
        tokens_active: ``[feature]``, patch tokens with a code above 0.
        seen: ``[images, patch tokens]``, how many were seen.

    Example:
        >>> ranking = Ranking.empty(features=1, top_images=2)
        >>> ranking.update(np.array([7, 3, 5]), np.float32([[1.0], [1.0], [2.0]]), np.array([4]), tokens=12)
        >>> ranking.image.tolist(), ranking.score.tolist()
        ([[5, 3]], [[2.0, 1.0]])
    """

    score: Float32[np.ndarray, "feature rank"]
    image: Int64[np.ndarray, "feature rank"]
    images_active: Int64[np.ndarray, " feature"]
    tokens_active: Int64[np.ndarray, " feature"]
    seen: Int64[np.ndarray, " 2"]

    @classmethod
    def empty(cls, features: int, top_images: int) -> Ranking:
        """A ranking of no images."""
        return cls(
            score=np.zeros((features, top_images), np.float32),
            image=np.full((features, top_images), -1, np.int64),
            images_active=np.zeros(features, np.int64),
            tokens_active=np.zeros(features, np.int64),
            seen=np.zeros(2, np.int64),
        )

    def update(
        self,
        index: Int64[np.ndarray, " image"],
        score: Float32[np.ndarray, "image feature"],
        tokens_active: Int64[np.ndarray, " feature"],
        tokens: int,
    ) -> None:
        """Take in some images.

        Args:
            index: the images' positions in the source; none may have been seen before.
            score: each image's score by feature.
            tokens_active: how many of these images' patch tokens each feature is active on.
            tokens: how many patch tokens these images have.
        """
        insert(self.score, self.image, score, np.broadcast_to(index[:, None], score.shape))
        self.images_active[:] += (score > 0).sum(0)
        self.tokens_active[:] += tokens_active
        self.seen[:] += (len(index), tokens)

    def merge(self, other: Ranking) -> None:
        """Take in all that another ranking has seen; the two must have seen different images."""
        insert(self.score, self.image, other.score.T, other.image.T)
        self.images_active[:] += other.images_active
        self.tokens_active[:] += other.tokens_active
        self.seen[:] += other.seen

    def chosen(
        self, first: int = 0, last: int = np.iinfo(np.int64).max
    ) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]:
        """The (image, feature) pairs of the ranking with images ``first`` to ``last``, by image, then feature."""
        feature, rank = np.nonzero((self.image >= first) & (self.image <= last))
        image = self.image[feature, rank]
        order = np.lexsort((feature, image))
        return image[order], feature[order].astype(np.int64)

    def keep(self, maps: ImageMaps) -> ImageMaps:
        """Of some maps, those whose image is among its feature's strongest."""
        return maps.take(np.nonzero((self.image[maps.feature] == maps.image[:, None]).any(1))[0])


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


CONTENTS = "contents"


@dataclass(frozen=True)
class Ranked:
    """What the ranking pass learnt of some images; merges in any order but for `contents`.

    Attributes:
        ranking: each feature's strongest images among them.
        fit: sums behind the fit check, over the sampled images among them.
        skipped: position and reason of each image that could not be read, ascending.
        sample: with ``quantile_images`` a sample of the images each feature is active on; else None.
        contents: what each image that was passed over is like (see `Watched`), in order; empty where nobody watches.
        maps: with ``rank_view="crops"`` the maps of a shard's strongest images, by feature, then image; else None.
    """

    ranking: Ranking
    fit: FitSums
    skipped: list[tuple[int, str]]
    maps: ImageMaps | None = None
    sample: ActiveSample | None = None
    contents: UInt64[np.ndarray, " image"] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def merge(self, other: Ranked) -> Ranked:
        """This and what another pass learnt of other images, without maps; neither may be used afterwards."""
        self.ranking.merge(other.ranking)
        self.fit.merge(other.fit)
        if self.sample is not None and other.sample is not None:
            self.sample.merge(other.sample)
        return Ranked(
            self.ranking,
            self.fit,
            sorted(self.skipped + other.skipped),
            sample=self.sample,
            contents=np.concatenate([self.contents, other.contents]),
        )

    def arrays(self) -> Arrays:
        """As named arrays, for a shard's file."""
        kept = {
            "score": self.ranking.score,
            "best": self.ranking.image,
            "images_active": self.ranking.images_active,
            "tokens_active": self.ranking.tokens_active,
            "seen": self.ranking.seen,
            "skipped": np.array([index for index, _ in self.skipped], np.int64),
            "reasons": np.array([reason for _, reason in self.skipped], np.str_),
            CONTENTS: self.contents,
            **{f"fit_{name}": value for name, value in self.fit.arrays().items()},
        }
        if self.sample is not None:
            kept |= {f"sample_{name}": value for name, value in self.sample.arrays().items()}
        return kept | (self.maps.arrays() if self.maps else {})

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Ranked:
        """What `arrays` gave."""
        return cls(
            Ranking(*(arrays[key] for key in ("score", "best", "images_active", "tokens_active", "seen"))),
            FitSums.from_arrays({key[4:]: value for key, value in arrays.items() if key.startswith("fit_")}),
            list(zip(arrays["skipped"].tolist(), arrays["reasons"].tolist(), strict=True)),
            ImageMaps.from_arrays(arrays) if "cells" in arrays else None,
            ActiveSample(*(arrays[f"sample_{name}"] for name in ("key", "image", "score")))
            if "sample_key" in arrays
            else None,
            arrays[CONTENTS],
        )

    def without_maps(self) -> Ranked:
        """The rest."""
        return replace(self, maps=None)
