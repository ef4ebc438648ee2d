"""The ids of images, and which files images lie in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Int64


class RowIds(Sequence[str]):
    """Row numbers as ids.

    Example:
        >>> ids = RowIds(1_300_000)
        >>> ids[-1], ids[8:11], len(ids)
        ('1299999', ['8', '9', '10'], 1300000)
    """

    def __init__(self, count: int):
        self._rows = range(count)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        rows = self._rows[index]
        return str(rows) if isinstance(rows, int) else [str(row) for row in rows]

    def __iter__(self) -> Iterator[str]:
        return map(str, self._rows)


class MemberIds(Sequence[str]):
    """``shard/member`` for the members of several shards, of which only the bytes of the names are kept.

    Args:
        shards: the shards' names.
        members: each shard's member names in UTF-8, in order.

    Example:
        >>> ids = MemberIds(["a.tar", "b.tar"], [[b"1.jpg", b"2.jpg"], [b"1.jpg"]])
        >>> list(ids), ids[-1], ids[1:]
        (['a.tar/1.jpg', 'a.tar/2.jpg', 'b.tar/1.jpg'], 'b.tar/1.jpg', ['a.tar/2.jpg', 'b.tar/1.jpg'])
        >>> ids.place(2)                               # in the second shard, its first
        (1, 0)
    """

    def __init__(self, shards: Sequence[str], members: Sequence[Sequence[bytes]]):
        self._shards = list(shards)
        self._starts = _offsets([len(names) for names in members])
        self._names = b"".join(name for names in members for name in names)
        self._ends = _offsets([len(name) for names in members for name in names])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def place(self, index: int) -> tuple[int, int]:
        """Which shard, and which of that shard's members.

        Raises:
            IndexError: there is no such image.
        """
        index = range(len(self))[index]
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        return shard, index - int(self._starts[shard])

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[one] for one in range(len(self))[index]]
        shard, member = self.place(index)
        start, stop = self._ends[self._starts[shard] + member :][:2]
        return f"{self._shards[shard]}/{self._names[start:stop].decode()}"

    def __iter__(self) -> Iterator[str]:
        for shard, first, last in zip(self._shards, self._starts[:-1], self._starts[1:], strict=True):
            ends = self._ends[first : last + 1].tolist()
            for start, stop in pairwise(ends):
                yield f"{shard}/{self._names[start:stop].decode()}"


def _offsets(lengths: Sequence[int]) -> Int64[np.ndarray, " bound"]:
    """Where each of some stretches begins, and where the last one ends."""
    return np.cumsum([0, *lengths], dtype=np.int64)


@dataclass(frozen=True)
class StoredIn:
    """Which files images lie in.

    Attributes:
        files: the files.
        first: the position of each file's first image; its others follow.
        count: images in all.

    Example:
        >>> StoredIn(["a.tar", "b.tar"], [0, 3], 5).images_in(np.array([1])).tolist()
        [3, 4]
    """

    files: Sequence[str | Path]
    first: Sequence[int]
    count: int

    def images_in(self, files: Int64[np.ndarray, " file"]) -> Int64[np.ndarray, " image"]:
        """The positions of the images in some of the files."""
        ends = np.append(np.asarray(self.first, np.int64)[1:], self.count)
        ranges = [np.arange(self.first[file], ends[file]) for file in files.tolist()]
        return np.concatenate(ranges) if ranges else np.zeros(0, np.int64)
