"""Activation maps of (image, feature) pairs: gathered from codes, kept in parts, and read back by feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from infoscope.dictionaries.sparse import SparseCodes
from infoscope.measurement.maps_kernel import count_entries, fill_entries
from infoscope.runtime.partials import Arrays, Part, shards
from infoscope.scope.maps import SparseMaps

# Our choice: the most that the maps of a shard or of a chunk of features take, where every code is above 0. Sorting
# them takes a few times as much.
MAPS_BYTES = 64 * 2**20
# The maps of a pair, and the arrays of each, in the names of a shard's arrays.
_CROPS, _ARRAYS = ("first", "second"), ("start", "patch", "value")
# Patch and value of one cell, in both crops.
_CELL_BYTES = 2 * (2 + 4)


def most_pairs(cells: int) -> int:
    """How many pairs of maps on ``cells`` patches fit into `MAPS_BYTES`.

    Example:
        >>> most_pairs(196)
        28532
    """
    return max(1, MAPS_BYTES // (_CELL_BYTES * cells))


def feature_chunks(features: int, top_images: int, cells: int) -> list[range]:
    """Consecutive features whose maps fit into memory together.

    Example:
        >>> [len(chunk) for chunk in feature_chunks(features=5000, top_images=16, cells=196)]
        [1783, 1783, 1434]
    """
    return shards(features, max(1, most_pairs(cells) // top_images))


@dataclass(frozen=True)
class ImageMaps:
    """Both crops' maps of (image, feature) pairs.

    Attributes:
        image: ``[pair]``, position of the image in the source.
        feature: ``[pair]``, the feature.
        first: maps of the first crop, on the full grid.
        second: maps of the second crop.
    """

    image: Int64[np.ndarray, " pair"]
    feature: Int64[np.ndarray, " pair"]
    first: SparseMaps
    second: SparseMaps

    def take(self, index: Int64[np.ndarray, " taken"]) -> ImageMaps:
        """The pairs at ``index``, in that order."""
        return ImageMaps(self.image[index], self.feature[index], self.first.take(index), self.second.take(index))

    def by_feature(self) -> ImageMaps:
        """The pairs ordered by feature, then image."""
        return self.take(np.lexsort((self.image, self.feature)))

    @classmethod
    def empty(cls, cells: int) -> ImageMaps:
        """No pairs, on a grid of ``cells`` patches."""
        none = np.zeros(0, np.int64)
        maps = SparseMaps(np.zeros(1, np.int64), np.zeros(0, np.uint16), np.zeros(0, np.float32), cells)
        return cls(none, none, maps, maps)

    @classmethod
    def concatenate(cls, parts: list[ImageMaps]) -> ImageMaps:
        """The pairs of several parts, one part after the other; at least one part."""
        return cls(
            np.concatenate([part.image for part in parts]),
            np.concatenate([part.feature for part in parts]),
            _concatenate([part.first for part in parts]),
            _concatenate([part.second for part in parts]),
        )

    def arrays(self) -> Arrays:
        """The maps as named arrays, for a shard's file."""
        return {
            "image": self.image,
            "feature": self.feature,
            "cells": np.array([self.first.cells]),
            **{f"{crop}_{name}": getattr(getattr(self, crop), name) for crop in _CROPS for name in _ARRAYS},
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> ImageMaps:
        """The inverse of `arrays`."""
        cells = int(arrays["cells"][0])
        first, second = (
            SparseMaps(arrays[f"{crop}_start"], arrays[f"{crop}_patch"], arrays[f"{crop}_value"], cells)
            for crop in _CROPS
        )
        return cls(arrays["image"], arrays["feature"], first, second)


def gather_maps(
    codes: SparseCodes,
    index: Int64[np.ndarray, " image"],
    image: Int64[np.ndarray, " pair"],
    feature: Int64[np.ndarray, " pair"],
    cells: int,
    features: int,
    views: tuple[int, int] = (0, 1),
    per_image: int = 2,
) -> ImageMaps:
    """The maps of the wanted features from the codes of a batch of crops.

    Args:
        codes: codes of every patch token of the batch, image by image and view by view.
        index: the batch's images, ascending.
        image: the image of each wanted pair, ascending, all of them in ``index``.
        feature: the feature of each wanted pair, ascending within an image.
        cells: patches in a crop, p^2.
        features: features of the dictionary.
        views: which of an image's views is the first crop, and which is the second.
        per_image: views of each image.
    """
    which = np.array(views, np.int64)
    # The wanted pairs of image i of the batch are begin[i]:begin[i + 1].
    begin = np.searchsorted(image, np.append(index, np.iinfo(np.int64).max)).astype(np.int64)
    counts = np.zeros((2, len(image) + 1), np.int64)
    count_entries(codes.start, codes.feature, begin, feature, cells, features, which, per_image, counts)
    starts = np.cumsum(counts, axis=1)
    patch = np.empty(starts[:, -1].sum(), np.uint16)
    value = np.empty(len(patch), np.float32)
    # The second crop's entries follow all of the first's.
    split = starts[0, -1]
    where = (begin, feature, cells, features, which, per_image)
    fill_entries(codes.start, codes.feature, codes.value, *where, starts, split, patch, value)
    return ImageMaps(
        image,
        feature,
        SparseMaps(starts[0], patch[:split], value[:split], cells),
        SparseMaps(starts[1], patch[split:], value[split:], cells),
    )


def maps_of_dense(
    image: int, feature: Int64[np.ndarray, " pair"], codes: Float32[np.ndarray, "token pair"]
) -> ImageMaps:
    """The maps of one image from dense codes.

    Args:
        image: the image's position in the source.
        feature: the features.
        codes: the features' codes on all patches of the first crop, then on all patches of the second.
    """
    first, second = np.split(codes.T, 2, axis=1)
    return ImageMaps(
        np.full(len(feature), image, np.int64), feature, SparseMaps.from_dense(first), SparseMaps.from_dense(second)
    )


@dataclass(frozen=True)
class PrefixedPart:
    """Those arrays of a `Part` whose names begin with a prefix, under their names without it."""

    part: Part
    prefix: str

    def rows(self, name: str, first: int = 0, stop: int | None = None) -> np.ndarray:
        """See `Part`."""
        return self.part.rows(f"{self.prefix}{name}", first, stop)


class MapParts:
    """Maps in parts, each ordered by feature, then image; no pair is in two parts.

    Args:
        parts: the arrays of each, as `ImageMaps.arrays` gives them.
        chunks: the features whose maps are in memory together.
        cells: patches in a map.
    """

    def __init__(self, parts: Sequence[Part], chunks: Sequence[range], cells: int):
        self._parts = parts
        self._empty = ImageMaps.empty(cells)
        edges = [chunk.start for chunk in chunks] + [chunks[-1].stop]
        self._edges = [np.searchsorted(part.rows("feature"), edges).tolist() for part in parts]

    def of_chunk(self, number: int) -> ImageMaps:
        """The maps of one chunk of features, one part after the other."""
        stretches = [
            _stretch(part, *edges[number : number + 2])
            for part, edges in zip(self._parts, self._edges, strict=True)
            if edges[number] < edges[number + 1]
        ]
        return ImageMaps.concatenate([self._empty, *stretches])


def _stretch(part: Part, first: int, stop: int) -> ImageMaps:
    """Pairs ``first`` to ``stop - 1`` of a part."""
    return ImageMaps(
        part.rows("image", first, stop),
        part.rows("feature", first, stop),
        _map_stretch(part, "first", first, stop),
        _map_stretch(part, "second", first, stop),
    )


def _map_stretch(part: Part, crop: str, first: int, stop: int) -> SparseMaps:
    start = part.rows(f"{crop}_start", first, stop + 1)
    entries = int(start[0]), int(start[-1])
    return SparseMaps(
        start - start[0],
        part.rows(f"{crop}_patch", *entries),
        part.rows(f"{crop}_value", *entries),
        int(part.rows("cells")[0]),
    )


def _concatenate(parts: list[SparseMaps]) -> SparseMaps:
    offsets = np.cumsum([0] + [part.start[-1] for part in parts])
    start = np.concatenate(
        [np.zeros(1, np.int64)] + [part.start[1:] + offset for part, offset in zip(parts, offsets[:-1], strict=True)]
    )
    return SparseMaps(
        start.astype(np.int64),
        np.concatenate([part.patch for part in parts]),
        np.concatenate([part.value for part in parts]),
        parts[0].cells,
    )
