"""Which views of which images are compared: the score's own two crops, and those of the cross-checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from infoscope.images.views import Cut
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.maps import ImageMaps
from infoscope.measurement.ranking import Ranking
from infoscope.runtime.partials import Arrays

MAIN = "main"
PRE = "pre-activations"
POSITION = "position-matched"
DIAGONAL = "other-diagonal"
QUANTILES = "quantiles"


@dataclass(frozen=True)
class MapSet:
    """Which two views of an image are compared, of which images, and what the maps hold.

    Attributes:
        name: unique in a measurement; tables and files call the set by it.
        cuts: the two views. On the grid, they overlap as crops at (0, 0) and at ``shift`` patches further do.
        shift: s, patches.
        pre: whether the maps hold pre-activations above 0 rather than codes.
        sampled: whether the images are spread over the quantiles of a feature's activation, rather than its strongest.
    """

    name: str
    cuts: tuple[Cut, Cut]
    shift: int
    pre: bool = False
    sampled: bool = False

    @property
    def is_check(self) -> bool:
        """Whether it is a cross-check on the strongest images, and so needs only those that the score is over."""
        return self.name != MAIN and not self.sampled

    @property
    def array_prefix(self) -> str:
        """What the names of the set's arrays begin with: nothing for the set of the score itself.

        Example:
            >>> [map_set.array_prefix for map_set in map_sets(MeasureConfig(shifts=(2, 4)))]
            ['', 'shift-4.']
        """
        return "" if self.name == MAIN else f"{self.name}."


def map_sets(config: MeasureConfig) -> list[MapSet]:
    """The sets of maps that the options ask for, that of the score itself first.

    Example:
        >>> [map_set.name for map_set in map_sets(MeasureConfig(shifts=(1, 2, 4), map_activation="pre"))]
        ['main', 'shift-1', 'shift-4', 'pre-activations']
    """
    s = config.shift
    first, both = Cut(0, 0), (Cut(0, 0), Cut(s, s))
    sets = [MapSet(MAIN, both, s)]
    sets += [MapSet(f"shift-{other}", (first, Cut(other, other)), other) for other in config.curve if other != s]
    if config.map_activation == "pre":
        sets.append(MapSet(PRE, both, s, pre=True))
    if config.control == "position-matched":
        # Rolling the patches of the second crop is the same as rolling the position table the other way: every
        # embedding is still used once, and on the overlap both crops have the embeddings of the first.
        sets.append(MapSet(POSITION, (first, Cut(s, s, rolled=s)), s))
    if config.diagonal == "both":
        # Mirrored, the crops at (0, s) and (s, 0) overlap as those at (0, 0) and (s, s) do.
        sets.append(MapSet(DIAGONAL, (Cut(0, s, mirrored=True), Cut(s, 0, mirrored=True)), s))
    if config.quantile_images:
        sets.append(MapSet(QUANTILES, both, s, sampled=True))
    return sets


def cuts_of(sets: Iterable[MapSet]) -> list[Cut]:
    """The views that the sets need, each once."""
    return list(dict.fromkeys(cut for map_set in sets for cut in map_set.cuts))


# Images, and the feature of each.
Chosen = tuple[Int64[np.ndarray, " _chosen"], Int64[np.ndarray, " _chosen"]]


@dataclass(frozen=True)
class Wanted:
    """The maps that one dictionary needs from pass 2; (image, feature) pairs are ordered by image, then feature.

    Attributes:
        sets: the sets of maps.
        image: images that are among the strongest of a feature.
        feature: the feature of each pair.
        checked_image: those of them that cross-checks need: the first k of a feature, without the ranks that serve
            repeatability alone.
        checked_feature: the feature of each pair.
        sampled_image: images that are spread over the quantiles of a feature.
        sampled_feature: the feature of each pair.
    """

    sets: tuple[MapSet, ...]
    image: Int64[np.ndarray, " pair"]
    feature: Int64[np.ndarray, " pair"]
    checked_image: Int64[np.ndarray, " checked"]
    checked_feature: Int64[np.ndarray, " checked"]
    sampled_image: Int64[np.ndarray, " sampled"]
    sampled_feature: Int64[np.ndarray, " sampled"]

    def of_images(self, first: int, last: int) -> Wanted:
        """The maps needed from images ``first`` to ``last``."""
        within = []
        for image, feature in self.chosen():
            stretch = slice(*np.searchsorted(image, [first, last + 1]))
            within += [image[stretch], feature[stretch]]
        return Wanted(self.sets, *within)

    def chosen(self) -> tuple[Chosen, Chosen, Chosen]:
        """The images and features of the score's own maps, of those of cross-checks, and of the sampled ones."""
        return (
            (self.image, self.feature),
            (self.checked_image, self.checked_feature),
            (self.sampled_image, self.sampled_feature),
        )

    def pairs(self, map_set: MapSet) -> Chosen:
        """The images and features of a set's maps."""
        strongest, checked, sampled = self.chosen()
        return sampled if map_set.sampled else checked if map_set.is_check else strongest

    def image_of_each_map(self) -> Int64[np.ndarray, " map"]:
        """The image of every pair of maps, ascending; it tells how much memory each image takes."""
        images = [self.pairs(map_set)[0] for map_set in self.sets]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *images]))

    @property
    def images(self) -> Int64[np.ndarray, " image"]:
        """Every image that maps are needed of, once, ascending."""
        return np.unique(np.concatenate([image for image, _ in self.chosen()]))


def wanted_maps(ranking: Ranking, spread: Ranking | None, config: MeasureConfig, gathered: bool) -> Wanted:
    """The maps that pass 2 has to compute.

    Args:
        ranking: the strongest images.
        spread: the images spread over the features' quantiles, where a set needs them.
        config: the options.
        gathered: whether pass 1 has gathered the maps of the score itself already.
    """
    sets = tuple(map_set for map_set in map_sets(config) if not (gathered and map_set.name == MAIN))
    none = np.zeros(0, np.int64), np.zeros(0, np.int64)
    strongest = none if gathered else ranking.chosen()
    checked = ranking.first(config.top_images).chosen() if any(map_set.is_check for map_set in sets) else none
    sampled = spread.chosen() if spread is not None else none
    return Wanted(sets, *strongest, *checked, *sampled)


@dataclass(frozen=True)
class SetMaps:
    """The maps of each set."""

    maps: dict[MapSet, ImageMaps]

    def arrays(self) -> Arrays:
        """The maps as named arrays, for a shard's file; `MapSet.array_prefix` tells the sets apart."""
        return {
            f"{map_set.array_prefix}{name}": array
            for map_set, maps in self.maps.items()
            for name, array in maps.arrays().items()
        }
