"""Ids that are made when asked for: a million strings would be larger than all else that a source keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
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
