"""Which views of which images are compared, and their maps brought together by feature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt64

from infoscope.images.views import Cut
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.maps import ImageMaps
from infoscope.measurement.ranking import Ranking
from infoscope.runtime.partials import Arrays, Part, shards
from infoscope.scope.maps import MapPairs, SparseMaps

MAIN = "main"
PRE = "pre-activations"
POSITION = "position-matched"
DIAGONAL = "other-diagonal"
QUANTILES = "quantiles"


@dataclass(frozen=True)
class MapSet:
    """One pair of views of each of some images, and the maps that are taken of it.

    Attributes:
        name: unlike any other's of the measurement.
        cuts: the two views; laid on the grid, they overlap as two crops at (0, 0) and ``shift`` patches further do.
        shift: s, patches.
        pre: the maps are of pre-activations above 0 rather than of codes.
        sampled: the images are spread over the quantiles of a feature's activation, rather than its strongest.
    """

    name: str
    cuts: tuple[Cut, Cut]
    shift: int
    pre: bool = False
    sampled: bool = False


def map_sets(config: MeasureConfig) -> list[MapSet]:
    """The sets of maps that the options ask for, that of the score itself first.

    Example:
        >>> [made.name for made in map_sets(MeasureConfig(shifts=(1, 2, 4), map_activation="pre"))]
        ['main', 'shift-1', 'shift-4', 'pre-activations']
    """
    s = config.shift
    first, both = Cut(0, 0), (Cut(0, 0), Cut(s, s))
    sets = [MapSet(MAIN, both, s)]
    sets += [MapSet(f"shift-{other}", (first, Cut(other, other)), other) for other in config.curve if other != s]
    if config.map_activation == "pre":
        sets.append(MapSet(PRE, both, s, pre=True))
    if config.control == "position-matched":
        # Patches are exchanged, so this is the position table rolled the other way: each embedding is there once, the
        # overlap has those of the first crop, and so do the rest.
        sets.append(MapSet(POSITION, (first, Cut(s, s, rolled=s)), s))
    if config.diagonal == "both":
        # From right to left the crops at (0, s) and (s, 0) overlap as those at (0, 0) and (s, s) do from left to right.
        sets.append(MapSet(DIAGONAL, (Cut(0, s, mirrored=True), Cut(s, 0, mirrored=True)), s))
    if config.quantile_images:
        sets.append(MapSet(QUANTILES, both, s, sampled=True))
    return sets


def cuts_of(sets: Iterable[MapSet]) -> list[Cut]:
    """The views that some sets need, each once."""
    return list(dict.fromkeys(cut for made in sets for cut in made.cuts))


@dataclass(frozen=True)
class Wanted:
    """The (image, feature) pairs whose maps are wanted, each by image, then feature.

    Attributes:
        image: of a feature's strongest images.
        feature: the feature of each.
        sampled_image: of images spread over a feature's quantiles.
        sampled_feature: the feature of each.
        main: whether the maps of the score itself are wanted; no longer where the ranking gathered them.
        contents: what `images` are like, where that is known (see `Watched`).
    """

    image: Int64[np.ndarray, " pair"]
    feature: Int64[np.ndarray, " pair"]
    sampled_image: Int64[np.ndarray, " sampled"]
    sampled_feature: Int64[np.ndarray, " sampled"]
    main: bool = True
    contents: UInt64[np.ndarray, " image"] | None = None

    def between(self, first: int, stop: int) -> Wanted:
        """Those of images ``first`` to ``stop - 1``."""
        strongest, sampled = (
            slice(*np.searchsorted(image, [first, stop])) for image in (self.image, self.sampled_image)
        )
        return Wanted(
            self.image[strongest],
            self.feature[strongest],
            self.sampled_image[sampled],
            self.sampled_feature[sampled],
            self.main,
        )

    def pairs(self, sampled: bool) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]:
        """The pairs of one kind: images and features."""
        return (self.sampled_image, self.sampled_feature) if sampled else (self.image, self.feature)

    @property
    def images(self) -> Int64[np.ndarray, " image"]:
        """Every image, once, ascending."""
        return np.union1d(self.image, self.sampled_image)


def wanted_maps(ranking: Ranking, spread: Ranking | None, sets: Sequence[MapSet], gathered: bool) -> Wanted:
    """What pass 2 is to make.

    Args:
        ranking: the strongest images.
        spread: the images spread over the features' quantiles, where a set needs them.
        sets: the sets of maps that the options ask for.
        gathered: whether the ranking gathered the score's own maps.
    """
    none = np.zeros(0, np.int64)
    strongest = any(not made.sampled and not (gathered and made.name == MAIN) for made in sets)
    image, feature = ranking.chosen() if strongest else (none, none)
    sampled_image, sampled_feature = spread.chosen() if spread is not None else (none, none)
    return Wanted(image, feature, sampled_image, sampled_feature, main=not gathered)


@dataclass(frozen=True)
class SetMaps:
    """The maps of some pairs, for each set by its name."""

    maps: dict[str, ImageMaps]

    def arrays(self) -> Arrays:
        """As named arrays, for a shard's file; `prefix` tells which set's they are."""
        return {
            f"{prefix(name)}{key}": value for name, maps in self.maps.items() for key, value in maps.arrays().items()
        }


def prefix(name: str) -> str:
    """What the names of a set's arrays begin with: nothing for the score's own.

    Example:
        >>> prefix("main"), prefix("shift-4")
        ('', 'shift-4.')
    """
    return "" if name == MAIN else f"{name}."


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
