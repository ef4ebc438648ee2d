"""What sources of stored images have in common: their bytes, the files they lie in, and ids that take little room."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar, overload

import numpy as np
from jaxtyping import Int64
from PIL import Image

from infoscope.images.decode import decode
from infoscope.runtime.file_states import stamp_files

T = TypeVar("T")


class EncodedSource(ABC):
    """A source whose images are stored as the bytes of image files, whatever holds those bytes.

    A subclass says how to read one image's bytes; decoding them is the same for all. Reading and decoding are two
    steps so that `Watched` can hash the bytes in between, and compare images without decoding them.

    Args:
        name: the source as the user named it.
        ids: one id per image, in order.
        files: the files that the images are read from.
        fingerprint: a hash of the content, where the ids do not name it.

    Attributes:
        notes: files that look like images but are not read, one line for each kind.
    """

    def __init__(self, name: str, ids: Sequence[str], files: Sequence[str | Path], fingerprint: str = ""):
        self.name = name
        self.ids = ids
        self.files = files
        self.fingerprint = fingerprint
        self.notes: list[str] = []

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """Image ``index`` as it is stored.

        Raises:
            UnreadableImageError: it cannot be read.
        """

    def stamp(self) -> str:
        """SHA-256 over the size and modification time of every file."""
        return stamp_files(self.files)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        return decode(self.encoded(index))


@dataclass(frozen=True)
class StoredIn:
    """Which files the images of a source lie in.

    Attributes:
        files: the files.
        first: the position of each file's first image; the file's other images follow it.
        count: the number of images in all files.

    Example:
        >>> StoredIn(["a.tar", "b.tar"], [0, 3], 5).images_in(np.array([1])).tolist()
        [3, 4]
    """

    files: Sequence[str | Path]
    first: Sequence[int]
    count: int

    def images_in(self, files: Int64[np.ndarray, " file"]) -> Int64[np.ndarray, " image"]:
        """The positions of all images that lie in the given files."""
        ends = np.append(np.asarray(self.first, np.int64)[1:], self.count)
        ranges = [np.arange(self.first[file], ends[file]) for file in files.tolist()]
        return np.concatenate(ranges) if ranges else np.zeros(0, np.int64)


class RowIds(Sequence[str]):
    """Row numbers as ids, computed when asked for.

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


class Recent(Generic[T]):
    """The blocks of a file that were read last; threads that want the same block wait for one read of it.

    A pickled copy starts empty. ``functools.lru_cache`` would not do: two threads that ask at once both read.

    Args:
        capacity: how many blocks are held.

    Example:
        >>> recent = Recent(2)
        >>> recent.get(7, str), recent.get(7, len)     # the second call does not read
        ('7', '7')
        >>> recent.clear()
        >>> recent.get(7, float)
        7.0
    """

    def __init__(self, capacity: int):
        self._capacity = capacity
        self._lock = Lock()
        self._futures: OrderedDict[int, Future[T]] = OrderedDict()

    def __reduce__(self) -> tuple[type[Recent[T]], tuple[int]]:
        return type(self), (self._capacity,)

    def clear(self) -> None:
        """Forget every block."""
        with self._lock:
            self._futures.clear()

    def get(self, block: int, read: Callable[[int], T]) -> T:
        """The block as it was read last, or as ``read(block)`` gives it now."""
        with self._lock:
            future = self._futures.get(block)
            is_first = future is None
            if future is None:
                future = self._futures[block] = Future()
                if len(self._futures) > self._capacity:
                    self._futures.popitem(last=False)
            self._futures.move_to_end(block)
        # The lock is not held while reading, so that other blocks are read meanwhile.
        if is_first:
            try:
                future.set_result(read(block))
            except BaseException as error:
                future.set_exception(error)
        return future.result()
