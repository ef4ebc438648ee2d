"""The activation maps that were asked of images, gathered from their codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from infoscope.dictionaries.sparse import SparseCodes
from infoscope.measurement.maps_kernel import count_entries, fill_entries
from infoscope.runtime.partials import Arrays
from infoscope.scope.maps import SparseMaps


@dataclass(frozen=True)
class ImageMaps:
    """Both crops' maps of some (image, feature) pairs.

    Attributes:
        image: ``[pair]``, position of the image in the source.
        feature: ``[pair]``.
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
        """Ordered by feature, then image."""
        return self.take(np.lexsort((self.image, self.feature)))

    @classmethod
    def empty(cls, cells: int) -> ImageMaps:
        """No pairs, on a grid of ``cells`` patches."""
        none = np.zeros(0, np.int64)
        maps = SparseMaps(np.zeros(1, np.int64), np.zeros(0, np.uint16), np.zeros(0, np.float32), cells)
        return cls(none, none, maps, maps)

    @classmethod
    def concatenate(cls, parts: list[ImageMaps]) -> ImageMaps:
        """Several parts, one after the other; at least one."""
        return cls(
            np.concatenate([part.image for part in parts]),
            np.concatenate([part.feature for part in parts]),
            _concatenate([part.first for part in parts]),
            _concatenate([part.second for part in parts]),
        )

    def arrays(self) -> Arrays:
        """As named arrays, for a shard's file."""
        return {
            "image": self.image,
            "feature": self.feature,
            "cells": np.array([self.first.cells]),
            **{f"first_{key}": value for key, value in _fields(self.first).items()},
            **{f"second_{key}": value for key, value in _fields(self.second).items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> ImageMaps:
        """What `arrays` gave."""
        cells = int(arrays["cells"][0])
        first, second = (
            SparseMaps(arrays[f"{crop}_start"], arrays[f"{crop}_patch"], arrays[f"{crop}_value"], cells)
            for crop in ("first", "second")
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
        views: which view of an image is the first crop, and which the second.
        per_image: views of an image.
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
    """Maps of one image from dense codes.

    Args:
        image: its position in the source.
        feature: the features.
        codes: their codes on all patches of the first crop, then on all of the second.
    """
    first, second = np.split(codes.T, 2, axis=1)
    return ImageMaps(
        np.full(len(feature), image, np.int64), feature, SparseMaps.from_dense(first), SparseMaps.from_dense(second)
    )


def _fields(maps: SparseMaps) -> Arrays:
    return {"start": maps.start, "patch": maps.patch, "value": maps.value}


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
