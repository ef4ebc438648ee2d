"""Map pairs: what the two crops of every feature's top images show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt16, UInt32, UInt64

from infoscope.scope.maps import SparseMaps


@dataclass(frozen=True)
class MapPairs:
    """The two crops' maps of every feature's top images, sorted by feature and rank.

    Attributes:
        feature: feature of each pair, ``[pair]``.
        rank: rank of the image among the feature's top images, from 0.
        image: position of the image in the source's order.
        score: the ranking score of the image, greater than 0.
        first: maps of the first crop on the full p x p grid.
        second: maps of the second crop, likewise.

    Raises:
        ValueError: the pairs are not sorted by feature and rank, or one occurs twice.

    Example:
        >>> maps = SparseMaps.from_dense(np.eye(2, 16))
        >>> pairs = MapPairs(
        ...     feature=np.array([3, 3], np.uint32), rank=np.array([0, 1], np.uint16),
        ...     image=np.array([7, 1], np.uint64), score=np.array([2.0, 1.0], np.float32), first=maps, second=maps,
        ... )
        >>> len(pairs), pairs.peak().tolist()
        (2, [1.0, 1.0])
    """

    feature: UInt32[np.ndarray, " pair"]
    rank: UInt16[np.ndarray, " pair"]
    image: UInt64[np.ndarray, " pair"]
    score: Float32[np.ndarray, " pair"]
    first: SparseMaps
    second: SparseMaps

    def __post_init__(self) -> None:
        if not len(self.feature) == len(self.first) == len(self.second):
            raise ValueError(
                f"{len(self.feature)} pairs have {len(self.first)} first and {len(self.second)} second maps"
            )
        key = self.feature.astype(np.int64) << 16 | self.rank
        if np.any(np.diff(key) <= 0):
            raise ValueError("pairs are sorted by feature and rank, each once")

    def __len__(self) -> int:
        return len(self.feature)

    def take(self, pairs: range) -> MapPairs:
        """Consecutive pairs, as they are."""
        index = np.arange(pairs.start, pairs.stop)
        return MapPairs(
            self.feature[index],
            self.rank[index],
            self.image[index],
            self.score[index],
            self.first.take(index),
            self.second.take(index),
        )

    def peak(self) -> Float32[np.ndarray, " pair"]:
        """The larger of the two crops' peaks on the full grid, ``[pair]``."""
        peak: Float32[np.ndarray, " pair"] = np.maximum(self.first.peak(), self.second.peak())
        return peak
