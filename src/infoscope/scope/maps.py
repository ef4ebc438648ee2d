"""Sparse activation maps, and pairs of them from two crops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, UInt16, UInt32, UInt64


@dataclass(frozen=True)
class SparseMaps:
    """Many sparse maps in compressed rows: map i holds entries ``start[i]:start[i + 1]``.

    Attributes:
        start: row pointers, ``[map + 1]``, beginning with 0.
        patch: cell of each entry, row-major on the grid of ``cells`` cells, ascending within a map.
        value: code of each entry, greater than 0.
        cells: number of cells of the grid that ``patch`` indexes.

    Example:
        >>> maps = SparseMaps.from_dense(np.array([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
        >>> maps.start.tolist(), maps.patch.tolist(), maps.mass().tolist()
        ([0, 2, 2], [1, 3], [3.0, 0.0])
    """

    start: Int64[np.ndarray, " map_plus_one"]
    patch: UInt16[np.ndarray, " entry"]
    value: Float32[np.ndarray, " entry"]
    cells: int

    def __len__(self) -> int:
        return len(self.start) - 1

    @classmethod
    def from_dense(cls, maps: Float[np.ndarray, "map cell"]) -> SparseMaps:
        """The positive entries of dense maps, ``[map, cell]``."""
        maps = maps.astype(np.float32)
        row, cell = np.nonzero(maps > 0)
        return cls(
            start=np.searchsorted(row, np.arange(len(maps) + 1)).astype(np.int64),
            patch=cell.astype(np.uint16),
            value=maps[row, cell],
            cells=maps.shape[1],
        )

    def dense(self) -> Float32[np.ndarray, "map cell"]:
        """The maps as a dense array, ``[map, cell]``; for a few maps at a time."""
        maps = np.zeros((len(self), self.cells), np.float32)
        maps[self.rows(), self.patch] = self.value
        return maps

    def rows(self) -> Int64[np.ndarray, " entry"]:
        """The map each entry belongs to, ``[entry]``."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    def mass(self) -> Float[np.ndarray, " map"]:
        """Sum of each map's codes, ``[map]``, in float64."""
        return np.bincount(self.rows(), weights=self.value, minlength=len(self)).astype(np.float64)

    def peak(self) -> Float32[np.ndarray, " map"]:
        """Largest code of each map, ``[map]``; 0 where the map is empty."""
        peak = np.zeros(len(self), np.float32)
        np.maximum.at(peak, self.rows(), self.value)
        return peak

    def floored(self, share: float) -> SparseMaps:
        """The maps without the codes under a share of each map's largest code; a share of 0 keeps all codes.

        Example:
            >>> SparseMaps.from_dense(np.array([[1.0, 4.0, 2.0]])).floored(0.5).value.tolist()
            [4.0, 2.0]
        """
        high = self.value >= np.float32(share) * self.peak()[self.rows()]
        start = np.concatenate([[0], np.cumsum(high)])[self.start].astype(np.int64)
        return SparseMaps(start, self.patch[high], self.value[high], self.cells)

    def take(self, index: Int64[np.ndarray, " taken"]) -> SparseMaps:
        """The maps at ``index``, in that order."""
        counts = np.diff(self.start)[index]
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        entry = np.repeat(self.start[index] - start[:-1], counts) + np.arange(start[-1])
        return SparseMaps(start, self.patch[entry], self.value[entry], self.cells)

    def window(self, grid: int, top: int, left: int, side: int) -> SparseMaps:
        """What p x p maps hold on a square window, re-indexed to that window.

        Args:
            grid: p, patches per side of these maps.
            top: first row of the window.
            left: first column of the window.
            side: patches per side of the window.
        """
        row, column = np.divmod(self.patch.astype(np.int64), grid)
        row, column = row - top, column - left
        inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
        start = np.concatenate([[0], np.cumsum(inside)])[self.start].astype(np.int64)
        patch = (row * side + column)[inside].astype(np.uint16)
        return SparseMaps(start, patch, self.value[inside], side * side)


def overlap_maps(first: SparseMaps, second: SparseMaps, grid: int, shift: int) -> tuple[SparseMaps, SparseMaps]:
    """The two crops' maps on the (p-s) x (p-s) patches they share.

    The first crop starts at the top left of the resized image, the second ``shift`` patches further down and
    right, so the overlap is rows and columns [s:p] of the first grid and [0:p-s] of the second
    (method, section 2).

    Args:
        first: maps of the first crop on the full p x p grid.
        second: maps of the second crop, pair by pair.
        grid: p, patches per side.
        shift: s, in patches.

    Example:
        >>> first = np.zeros((1, 16)); first[0, 5] = 1.0     # row 1, column 1 of 4 x 4
        >>> second = np.zeros((1, 16)); second[0, 0] = 1.0   # the same pixels after a shift of 1
        >>> a, b = overlap_maps(SparseMaps.from_dense(first), SparseMaps.from_dense(second), grid=4, shift=1)
        >>> a.patch.tolist(), b.patch.tolist(), a.cells
        ([0], [0], 9)
    """
    side = grid - shift
    return first.window(grid, shift, shift, side), second.window(grid, 0, 0, side)


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
            raise ValueError("pairs must be sorted by feature and rank, each once")

    def __len__(self) -> int:
        return len(self.feature)

    def take(self, pairs: range | Int64[np.ndarray, " taken"]) -> MapPairs:
        """Some of the pairs, ascending."""
        index = np.arange(pairs.start, pairs.stop) if isinstance(pairs, range) else pairs
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


@dataclass(frozen=True)
class Overlaps:
    """What each pair's crops show of the overlap, and the pairs of unrelated pictures that it is compared with.

    Attributes:
        first: maps of the first crop on the overlap, ``[pair]``.
        second: maps of the second crop, likewise.
        partner: index of the feature's next valid pair, one with mass in both, among the first ``top_images`` ranks;
            after the last, the first; -1 without.
        half_partner: the same among all ranks that are even or odd as this pair's is.
    """

    first: SparseMaps
    second: SparseMaps
    partner: Int64[np.ndarray, " pair"]
    half_partner: Int64[np.ndarray, " pair"]

    @classmethod
    def of(cls, pairs: MapPairs, grid: int, shift: int, top_images: int | None = None) -> Overlaps:
        """Those of pairs of whole features.

        Args:
            pairs: the maps, on the full grid.
            grid: p, patches per side.
            shift: s, patches between the crops.
            top_images: k; pairs of later ranks are partners of a half alone. None: all are partners.

        Example:
            >>> maps = SparseMaps.from_dense(np.ones((3, 16)))
            >>> numbers = np.zeros(3, np.uint32), np.arange(3, dtype=np.uint16), np.arange(3, dtype=np.uint64)
            >>> overlaps = Overlaps.of(MapPairs(*numbers, np.ones(3, np.float32), maps, maps), grid=4, shift=1)
            >>> overlaps.first.cells, overlaps.partner.tolist(), overlaps.half_partner.tolist()
            (9, [1, 2, 0], [2, -1, 0])
        """
        first, second = overlap_maps(pairs.first, pairs.second, grid, shift)
        valid = (np.diff(first.start) > 0) & (np.diff(second.start) > 0)
        ranked = valid if top_images is None else valid & (pairs.rank < top_images)
        return cls(first, second, next_valid(pairs.feature, ranked), half_partners(pairs, valid))


def next_valid(feature: UInt32[np.ndarray, " pair"], valid: Bool[np.ndarray, " pair"]) -> Int64[np.ndarray, " pair"]:
    """The next valid pair of the same feature in rank order; after its last one, its first.

    Args:
        feature: the feature of each pair; a feature's pairs are together, in rank order.
        valid: which pairs have mass on the overlap in both crops.

    Returns:
        The index of that pair; -1 for pairs that are not valid, and where the feature has no other valid pair.

    Example:
        >>> next_valid(np.array([0, 0, 0, 4, 4], np.uint32), np.array([True, False, True, True, False]))
        array([ 2, -1,  0, -1, -1])
    """
    index = np.flatnonzero(valid)
    owner = feature[index]
    begins = np.flatnonzero(np.append(True, owner[1:] != owner[:-1])) if len(index) else np.zeros(0, np.int64)
    following = np.roll(index, -1)
    ends = np.append(begins[1:], len(index)) - 1
    if len(index):
        following[ends] = index[begins]
    following[following == index] = -1
    out = np.full(len(feature), -1, np.int64)
    out[index] = following
    return out


def half_partners(pairs: MapPairs, valid: Bool[np.ndarray, " pair"]) -> Int64[np.ndarray, " pair"]:
    """As `next_valid`, but the next pair among those whose rank is even or odd as this pair's is."""
    # Each feature's even ranks, then its odd ones, as if they were two features.
    half = 2 * pairs.feature + pairs.rank % 2
    by_half = np.argsort(half, kind="stable")
    partner = np.full(len(pairs), -1, np.int64)
    following = next_valid(half[by_half], valid[by_half])
    partner[by_half] = np.where(following >= 0, by_half[following], -1)
    return partner
