"""Pass 1: each feature's strongest images. Shards merge in any order to the same answer.

`Ranking` and `ActiveSample` are what is kept for each feature, `Ranked` is all that a pass learnt about one dictionary,
and `RankingFold` combines the shards of a pass as they come, so that neither memory nor disk grows with the images.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from jaxtyping import Float32, Int64, UInt64

from infoscope.dictionaries.fvu import FitSums
from infoscope.errors import InfoscopeError
from infoscope.measurement.maps import ImageMaps, MapParts, PrefixedPart
from infoscope.measurement.ranking_kernel import insert, insert_lowest
from infoscope.runtime.partials import Arrays, Part, Partials
from infoscope.scope.maps import MapPairs


@dataclass(frozen=True)
class Ranking:
    """The k strongest of the images that each feature has seen, and how many it has seen.

    The order is total: score first, lower image index second. Neither the order in which images arrive nor how they are
    split between rankings can change the result. An image with a score of 0 is never in it.

    Attributes:
        score: ``[feature, rank]``, descending; 0 where there is no image.
        image: ``[feature, rank]``, index of the image; -1 where there is none.
        images_active: ``[feature]``, images with a score above 0.
        tokens_active: ``[feature]``, patch tokens with a code above 0.
        seen: how many images and how many patch tokens were seen, ``[2]``.

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
        """Add images to the ranking.

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
        """Add everything that another ranking has seen; the two must have seen different images."""
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

    def first(self, images: int) -> Ranking:
        """The same with only the first so many images of each feature."""
        return replace(self, score=self.score[:, :images], image=self.image[:, :images])

    def keep(self, maps: ImageMaps) -> ImageMaps:
        """The maps whose image is among the strongest of their feature."""
        return maps.take(np.nonzero((self.image[maps.feature] == maps.image[:, None]).any(1))[0])

    def pairs(self, maps: ImageMaps, features: range) -> MapPairs:
        """The ranked images' maps of consecutive features, ordered by feature, then rank.

        Args:
            maps: maps of these features alone; images that are not in the ranking are ignored.
            features: the features.
        """
        maps = self.keep(maps).by_feature()
        feature, rank = np.nonzero(self.image[features.start : features.stop] >= 0)
        feature += features.start
        image = self.image[feature, rank]
        # A feature's maps are ordered by image, its pairs by rank.
        order = np.empty(len(feature), np.int64)
        order[np.lexsort((image, feature))] = np.arange(len(feature))
        assert np.array_equal(maps.image[order], image)
        assert np.array_equal(maps.feature[order], feature)
        return MapPairs(
            feature=feature.astype(np.uint32),
            rank=rank.astype(np.uint16),
            image=image.astype(np.uint64),
            score=self.score[feature, rank],
            first=maps.first.take(order),
            second=maps.second.take(order),
        )


_NO_KEY = np.iinfo(np.uint64).max


@dataclass(frozen=True)
class ActiveSample:
    """A uniform sample of the images that each feature is active on, with their scores.

    Every image has a pseudo-random key that depends only on its index and the seed, and a feature keeps the images with
    the lowest keys among those it is active on. The choice depends neither on the order in which images come nor on how
    they are split, so samples merge exactly; nor does it depend on scores, so the sample is uniform. A feature that is
    active on no more images than are kept keeps all of them. Keys are the same for every feature, so that features that
    are active on most images keep much the same ones, and few images have to be read again.

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
        return cls(np.full(shape, _NO_KEY, np.uint64), np.full(shape, -1, np.int64), np.zeros(shape, np.float32))

    def update(
        self, index: Int64[np.ndarray, " image"], score: Float32[np.ndarray, "image feature"], seed: int
    ) -> None:
        """Add images to the sample; none may have been seen before."""
        key, image = (np.broadcast_to(row[:, None], score.shape) for row in (keys(index, seed), index))
        insert_lowest(self.key, self.image, self.score, key, image, score)

    def merge(self, other: ActiveSample) -> None:
        """Add everything that another sample with the same seed has seen; the two must have seen different images."""
        insert_lowest(self.key, self.image, self.score, other.key.T, other.image.T, other.score.T)

    def spread(self, count: int) -> Ranking:
        """For each feature, the middle image of each of ``count`` equal shares of its sample, strongest first.

        These are, of n images in order of their scores, the ones at floor((i + 1/2) n / count). With fewer than
        ``count`` images, all are taken.
        """
        order = np.lexsort((self.image, -self.score), axis=-1)
        score, image = (np.take_along_axis(values, order, axis=1) for values in (self.score, self.image))
        known = (image >= 0).sum(1)[:, None]
        rank = np.arange(min(count, image.shape[1]))
        slot = np.where(known < count, rank, (2 * rank + 1) * known // (2 * count))
        filled = slot < known
        slot = np.where(filled, slot, 0)
        chosen = Ranking.empty(len(image), len(rank))
        chosen.image[:] = np.where(filled, np.take_along_axis(image, slot, axis=1), -1)
        chosen.score[:] = np.where(filled, np.take_along_axis(score, slot, axis=1), 0)
        return chosen

    def arrays(self) -> Arrays:
        """The sample as named arrays."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def keys(index: Int64[np.ndarray, " image"], seed: int) -> UInt64[np.ndarray, " image"]:
    """A pseudo-random number for each image: SplitMix64 (Steele, Lea and Flood 2014) of the index and the seed.

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
    """What pass 1 learnt about one dictionary's features from a set of images; merges in any order.

    Attributes:
        ranking: each feature's strongest images among them.
        fit: the sums behind the fit check, over those of the images that are in its sample.
        maps: with ``rank_view="crops"``, the maps of a shard's strongest images, by feature, then image; else None.
        sample: with ``quantile_images``, a sample of the images that each feature is active on; else None.
    """

    ranking: Ranking
    fit: FitSums
    maps: ImageMaps | None = None
    sample: ActiveSample | None = None

    @classmethod
    def empty(cls, width: int, features: int, top_images: int, sampled_images: int) -> Ranked:
        """Of no images.

        Args:
            width: length of a token.
            features: features of the dictionary.
            top_images: strongest images kept for each feature.
            sampled_images: sampled images kept for each feature; 0 for no sample.
        """
        sample = ActiveSample.empty(features, sampled_images) if sampled_images else None
        return cls(Ranking.empty(features, top_images), FitSums.empty(width, features), sample=sample)

    def merge(self, other: Ranked) -> None:
        """Add what was learnt from other images, apart from their maps."""
        self.ranking.merge(other.ranking)
        self.fit.merge(other.fit)
        if self.sample is not None and other.sample is not None:
            self.sample.merge(other.sample)

    def arrays(self) -> Arrays:
        """The result as named arrays, for a shard's file."""
        arrays = {
            "score": self.ranking.score,
            "best": self.ranking.image,
            "images_active": self.ranking.images_active,
            "tokens_active": self.ranking.tokens_active,
            "seen": self.ranking.seen,
            **{f"fit_{name}": value for name, value in self.fit.arrays().items()},
        }
        if self.sample is not None:
            arrays |= {f"sample_{name}": value for name, value in self.sample.arrays().items()}
        return arrays | (self.maps.arrays() if self.maps else {})

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Ranked:
        """The inverse of `arrays`."""
        return cls(
            Ranking(*(arrays[key] for key in ("score", "best", "images_active", "tokens_active", "seen"))),
            FitSums.from_arrays({key[4:]: value for key, value in arrays.items() if key.startswith("fit_")}),
            ImageMaps.from_arrays(arrays) if "cells" in arrays else None,
            ActiveSample(*(arrays[f"sample_{name}"] for name in ("key", "image", "score")))
            if "sample_key" in arrays
            else None,
        )


@dataclass(frozen=True)
class RankedImages:
    """What pass 1 learnt from a set of images.

    Attributes:
        dictionaries: what it learnt about each dictionary.
        skipped: position and reason of each image that could not be read, ascending.
        contents: a hash of each image (see `Watched`), in order; empty unless the images are watched.
    """

    dictionaries: list[Ranked]
    skipped: list[tuple[int, str]] = field(default_factory=list)
    contents: UInt64[np.ndarray, " image"] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def merge(self, other: RankedImages) -> RankedImages:
        """This result merged with that of the images that follow, without maps; neither may be used afterwards."""
        for mine, theirs in zip(self.dictionaries, other.dictionaries, strict=True):
            mine.merge(theirs)
        return RankedImages(
            self.dictionaries, sorted(self.skipped + other.skipped), np.concatenate([self.contents, other.contents])
        ).without_maps()

    def without_maps(self) -> RankedImages:
        """The result apart from its maps."""
        return replace(self, dictionaries=[replace(ranked, maps=None) for ranked in self.dictionaries])

    def arrays(self) -> Arrays:
        """The result as named arrays, for a shard's file."""
        return {
            "skipped": np.array([index for index, _ in self.skipped], np.int64),
            "reasons": np.array([reason for _, reason in self.skipped], np.str_),
            CONTENTS: self.contents,
            **join_arrays([ranked.arrays() for ranked in self.dictionaries]),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, dictionaries: int) -> RankedImages:
        """The inverse of `arrays`, for this number of dictionaries."""
        skipped = list(zip(arrays["skipped"].tolist(), arrays["reasons"].tolist(), strict=True))
        ranked = [Ranked.from_arrays(own) for own in split_arrays(arrays, dictionaries)]
        return cls(ranked, skipped, arrays[CONTENTS])


def join_arrays(results: Sequence[Arrays]) -> Arrays:
    """The arrays of the results for each dictionary, under names that tell the dictionaries apart.

    Example:
        >>> result = {"score": np.ones(1)}
        >>> list(join_arrays([result])), list(join_arrays([result, result]))
        (['score'], ['0.score', '1.score'])
    """
    return {
        f"{dictionary_prefix(number, len(results))}{name}": array
        for number, arrays in enumerate(results)
        for name, array in arrays.items()
    }


def split_arrays(arrays: Arrays, dictionaries: int) -> list[Arrays]:
    """The inverse of `join_arrays`, for this number of dictionaries."""
    prefixes = [dictionary_prefix(number, dictionaries) for number in range(dictionaries)]
    return [
        {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        for prefix in prefixes
    ]


def dictionary_prefix(number: int, dictionaries: int) -> str:
    """What the names of a dictionary's arrays begin with: nothing where it is the only one."""
    return "" if dictionaries == 1 else f"{number}."


# Our choice. The file of one shard is as large as the fold of all shards before it, so this many are on disk at most;
# and writing a fold costs little next to the passes over sixteen shards.
SHARDS_TO_FOLD = 16

# The partial results of a ranking that hold hashes of images: its shards, and what they were folded into.
_RANKED = re.compile(r"(?:ranking|crops)-(?:folded|(?P<first>\d+))-\d+")


class RankingFold:
    """The running state of pass 1: what is known about images 0 to ``stop - 1``. It resumes from the partial results.

    Args:
        partials: where shards are kept.
        stage: the name of the stage, which the names of its shards begin with.
        chunks: for each dictionary, the features whose maps are in memory together.
        cells: patches in a map.

    Attributes:
        ranked: what is known, without maps; None before the first shard.
        stop: how many images that covers.
        parts: with ``rank_view="crops"``, for each dictionary the maps of images that are or were among the strongest.
    """

    def __init__(self, partials: Partials, stage: str, chunks: Sequence[Sequence[range]], cells: int):
        self.ranked: RankedImages | None = None
        self.stop = 0
        self.parts: list[list[Part]] = [[] for _ in chunks]
        self._partials = partials
        self._stage = stage
        self._chunks = chunks
        self._cells = cells
        self._unfolded: list[str] = []
        self._resume()

    def shard_name(self, shard: range) -> str:
        """The name of a shard's partial result."""
        return f"{self._stage}-{shard.start:09}-{shard.stop:09}"

    def take(self, shard: range, arrays: Arrays) -> None:
        """Add the next shard, whose partial result is on disk already."""
        shard_ranked = RankedImages.from_arrays(arrays, len(self._chunks))
        name = self.shard_name(shard)
        for number, ranked in enumerate(shard_ranked.dictionaries):
            if ranked.maps is not None:
                prefix = dictionary_prefix(number, len(self._chunks))
                # Without a directory parts stay in memory: of the maps alone, not of the shard's whole ranking.
                maps = {f"{prefix}{key}": array for key, array in ranked.maps.arrays().items()}
                self.parts[number].append(PrefixedPart(self._partials.part(name, maps), prefix))
        self._set(shard.stop, shard_ranked if self.ranked is None else self.ranked.merge(shard_ranked))
        self._unfolded.append(name)
        if len(self._unfolded) == SHARDS_TO_FOLD:
            self._fold()

    def _set(self, stop: int, ranked: RankedImages) -> None:
        self.stop, self.ranked = stop, ranked.without_maps()

    def _fold(self) -> None:
        """Replace the shards by one file of all that is known, and one of the maps of each chunk of features."""
        assert self.ranked is not None
        folded = self._folded_name(self.stop)
        for number, chunks in enumerate(self._chunks):
            if not self.parts[number]:
                continue
            maps, parts = MapParts(self.parts[number], chunks, self._cells), list[Part]()
            for chunk in range(len(chunks)):
                arrays = self.ranked.dictionaries[number].ranking.keep(maps.of_chunk(chunk)).by_feature().arrays()
                name = self._chunk_name(folded, number, chunk)
                self._partials.put(name, arrays)
                parts.append(self._partials.part(name, arrays))
            self.parts[number] = parts
        # Written last: once it exists, it stands for the shards.
        self._partials.put(folded, self.ranked.arrays())
        self._unfolded = []
        self._remove_stale()

    def _resume(self) -> None:
        """Start from the fold that covers the most images, if there is one."""
        pattern = re.compile(re.escape(self._folded_name(0)).replace("000000000", r"(\d+)"))
        stops = [int(match[1]) for name in self._partials.names() if (match := pattern.fullmatch(name))]
        if not stops:
            return
        folded = self._folded_name(max(stops))
        self._set(max(stops), RankedImages.from_arrays(self._partials.read(folded), len(self._chunks)))
        for number, chunks in enumerate(self._chunks):
            names = [self._chunk_name(folded, number, chunk) for chunk in range(len(chunks))]
            self.parts[number] = [self._partials.part(name, {}) for name in names if name in self._partials]
        self._remove_stale()

    def _remove_stale(self) -> None:
        """Remove the shards and folds whose images a later fold covers."""
        current = self._folded_name(self.stop)
        shard = re.compile(re.escape(self._stage) + r"-\d+-(\d+)")
        for name in list(self._partials.names()):
            covered = (match := shard.fullmatch(name)) is not None and int(match[1]) <= self.stop
            if covered or (name.startswith(f"{self._stage}-folded-") and not name.startswith(current)):
                self._partials.remove(name)

    def _folded_name(self, stop: int) -> str:
        return f"{self._stage}-folded-{stop:09}"

    def _chunk_name(self, folded: str, number: int, chunk: int) -> str:
        return f"{folded}-{dictionary_prefix(number, len(self._chunks))}features-{chunk:06}"


def ranked_contents(partials: Partials, images: int) -> UInt64[np.ndarray, " image"]:
    """Hashes of the images that an interrupted measurement has ranked; 0 for the others (see `Watched`).

    Args:
        partials: the partial results of that measurement.
        images: how many images there are.
    """
    contents = np.zeros(images, np.uint64)
    for name in partials.names():
        if match := _RANKED.fullmatch(name):
            try:
                known = partials.part(name, {}).rows(CONTENTS)
            except InfoscopeError:  # an older file without hashes, or a damaged one
                continue
            first = int(match["first"] or 0)
            contents[first : first + len(known)] = known
    return contents
