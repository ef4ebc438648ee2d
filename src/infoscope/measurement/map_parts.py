"""The maps of all shards, brought together some features at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infoscope.execution.partials import shards
from infoscope.execution.parts import Part
from infoscope.measurement.map_sets import prefix
from infoscope.measurement.maps import ImageMaps
from infoscope.measurement.ranking import Ranking
from infoscope.scope.maps import SparseMaps
from infoscope.scope.pairs import MapPairs

# Our choice: what a shard or a group of features may hold when every code of its maps is above 0. Putting maps in order
# takes a few times as much.
MAPS_BYTES = 64 * 2**20
# Patch and value of one cell, in both crops.
_CELL_BYTES = 2 * (2 + 4)


def most_pairs(cells: int) -> int:
    """How many pairs' maps on ``cells`` patches stay within `MAPS_BYTES`.

    Example:
        >>> most_pairs(196)
        28532
    """
    return max(1, MAPS_BYTES // (_CELL_BYTES * cells))


def feature_groups(features: int, top_images: int, cells: int) -> list[range]:
    """Consecutive features whose maps fit into memory together.

    Example:
        >>> [len(group) for group in feature_groups(features=5000, top_images=16, cells=196)]
        [1783, 1783, 1434]
    """
    return shards(features, max(1, most_pairs(cells) // top_images))


@dataclass(frozen=True)
class SetPart:
    """One set's maps among those of all sets, as a `Part`.

    Attributes:
        part: what `SetMaps.arrays` gave.
        name: the set's.
    """

    part: Part
    name: str

    def rows(self, name: str, first: int = 0, stop: int | None = None) -> np.ndarray:
        """See `Part`."""
        return self.part.rows(f"{prefix(self.name)}{name}", first, stop)


class MapParts:
    """Maps in parts, each ordered by feature, then image; the same pair is never in two.

    Args:
        parts: what `ImageMaps.arrays` gave.
        groups: the features that are asked for together.
        cells: patches in a map.
    """

    def __init__(self, parts: Sequence[Part], groups: Sequence[range], cells: int):
        self._parts = parts
        self._empty = ImageMaps.empty(cells)
        edges = [group.start for group in groups] + [groups[-1].stop]
        self._edges = [np.searchsorted(part.rows("feature"), edges).tolist() for part in parts]

    def maps(self, group: int, ranking: Ranking) -> ImageMaps:
        """The maps of one group's features and of images in the ranking, by feature, then image."""
        found = [
            _stretch(part, *edges[group : group + 2])
            for part, edges in zip(self._parts, self._edges, strict=True)
            if edges[group] < edges[group + 1]
        ]
        return ranking.keep(ImageMaps.concatenate([self._empty, *found])).by_feature()

    def pairs(self, group: int, features: range, ranking: Ranking) -> MapPairs:
        """The maps of one group's features, ordered by feature, then rank."""
        maps = self.maps(group, ranking)
        feature, rank = np.nonzero(ranking.image[features.start : features.stop] >= 0)
        feature += features.start
        image = ranking.image[feature, rank]
        # Where each ranked (feature, image) is among the maps: the k-th of its feature by image.
        place = np.empty(len(feature), np.int64)
        place[np.lexsort((image, feature))] = np.arange(len(feature))
        assert np.array_equal(maps.image[place], image)
        assert np.array_equal(maps.feature[place], feature)
        return MapPairs(
            feature=feature.astype(np.uint32),
            rank=rank.astype(np.uint16),
            image=image.astype(np.uint64),
            score=ranking.score[feature, rank],
            first=maps.first.take(place),
            second=maps.second.take(place),
        )


def _stretch(part: Part, first: int, stop: int) -> ImageMaps:
    """Pairs ``first`` to ``stop`` of a part."""
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
