"""Shards of a stage, and their finished results on disk."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.lib import format as npy

from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import atomic_write, remove_leftovers

# A member's local header: 26 bytes on are the lengths of its name and of what follows the name (PKWARE APPNOTE, 4.3.7).
_LENGTHS = struct.Struct("<26xHH")


# What reading a damaged file of arrays raises; numpy parses headers as Python, so the list is long.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def check_members(members: zipfile.ZipFile) -> None:
    """Compare all members of a file with their checksums, before numpy parses a damaged header as Python.

    Raises:
        zipfile.BadZipFile: something is damaged.
    """
    if damaged := members.testzip():
        raise zipfile.BadZipFile(f"{damaged} is damaged")


@runtime_checkable
class Part(Protocol):
    """Named arrays with one axis."""

    def rows(self, name: str, first: int = 0, stop: int | None = None) -> np.ndarray:
        """Entries ``first`` to ``stop`` of an array, by default all."""
        ...


@dataclass(frozen=True)
class ArraysHere:
    """Arrays in memory, as a `Part`.

    Example:
        >>> ArraysHere({"image": np.arange(5)}).rows("image", 1, 3).tolist()
        [1, 2]
    """

    arrays: Mapping[str, np.ndarray]

    def rows(self, name: str, first: int = 0, stop: int | None = None) -> np.ndarray:
        """See `Part`."""
        return self.arrays[name][first:stop]


@dataclass(frozen=True)
class StoredArrays:
    """Arrays in a file that `numpy.savez` wrote, as a `Part`; checksums are compared when the file is first read.

    Raises:
        InfoscopeError: the file cannot be read or is damaged.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "part.npz"
        >>> np.savez(file, image=np.arange(5), cells=np.array(9))
        >>> StoredArrays(file).rows("image", 1, 3).tolist(), StoredArrays(file).rows("cells").tolist()
        ([1, 2], [9])
    """

    file: Path

    def rows(self, name: str, first: int = 0, stop: int | None = None) -> np.ndarray:
        """See `Part`."""
        if name not in self._places:
            raise self._unreadable(f"it has no {name}")
        offset, dtype, length = self._places[name]
        first, stop, _ = slice(first, stop).indices(length)
        count = max(stop - first, 0)
        try:
            entries = np.fromfile(self.file, dtype, count, offset=offset + first * dtype.itemsize)
        except OSError as error:
            raise self._unreadable(error) from error
        if len(entries) != count:
            raise self._unreadable("it has become shorter")
        return entries

    @cached_property
    def _places(self) -> dict[str, tuple[int, np.dtype, int]]:
        """For each array: where its first entry is, its type, and the number of entries."""
        places = {}
        try:
            with zipfile.ZipFile(self.file) as members, self.file.open("rb") as stream:
                # `rows` reads stretches without the zip file's reader, which alone would compare them with their CRC.
                check_members(members)
                for member in members.infolist():
                    if member.compress_type != zipfile.ZIP_STORED:
                        raise zipfile.BadZipFile(f"{member.filename} is compressed")
                    stream.seek(member.header_offset)
                    stream.seek(sum(_LENGTHS.unpack(stream.read(_LENGTHS.size))), 1)
                    version = npy.read_magic(stream)
                    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, _, dtype = read(stream)
                    if dtype.hasobject or any(side < 0 for side in shape):
                        raise ValueError(f"{member.filename} holds no numbers")
                    places[member.filename.removesuffix(".npy")] = stream.tell(), dtype, int(np.prod(shape, dtype=int))
        except UNREADABLE as error:
            raise self._unreadable(error) from error
        return places

    def _unreadable(self, reason: object) -> InfoscopeError:
        return InfoscopeError(f"cannot read {self.file} ({reason}); delete it and run the same command again")


Arrays = dict[str, np.ndarray]


def shards(count: int, size: int) -> list[range]:
    """Cut ``count`` items into consecutive ranges of ``size``; the last may be shorter.

    Example:
        >>> shards(5, 2)
        [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def digest(*arrays: np.ndarray) -> str:
    """Twelve hexadecimal digits that tell arrays from others, to name a partial result by what it was made from."""
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:12]


class Partials:
    """Finished shards, by name. Without a directory nothing is kept and nothing is found.

    Example:
        >>> import tempfile
        >>> partials = Partials(Path(tempfile.mkdtemp()))
        >>> partials.get_or_compute("ranking-0", lambda: {"score": np.ones(2)})["score"].tolist()
        [1.0, 1.0]
        >>> "ranking-0" in partials
        True
    """

    def __init__(self, directory: Path | None):
        self.directory = directory

    def __contains__(self, name: str) -> bool:
        return self.directory is not None and self._file(name).is_file()

    def get_or_compute(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """The arrays of shard ``name``: read when finished before, else computed and kept.

        Raises:
            InfoscopeError: the kept file cannot be read, or a new one cannot be written.
        """
        if name in self:
            return self.read(name)
        arrays = compute()
        self.put(name, arrays)
        return arrays

    def read(self, name: str) -> Arrays:
        """The arrays of a finished shard.

        Raises:
            InfoscopeError: the kept file cannot be read.
        """
        file = self._file(name)
        try:
            with file.open("rb") as stream:
                with zipfile.ZipFile(stream) as members:
                    check_members(members)
                stream.seek(0)
                with np.load(stream, allow_pickle=False) as arrays:
                    return dict(arrays)
        except UNREADABLE as error:
            raise InfoscopeError(f"cannot read {file} ({error}); delete it and run the same command again") from error

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep the arrays of a finished shard, where there is a directory.

        Raises:
            InfoscopeError: the file cannot be written.
        """
        if self.directory is not None:
            with atomic_write(self._file(name)) as temporary, temporary.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **arrays)

    def clear(self) -> None:
        """Remove the kept shards, once the result that needed them is written."""
        for name in self.names():
            self.remove(name)
        if self.directory is not None:
            remove_leftovers(self.directory)
            for file in self.directory.glob("*.parquet"):
                file.unlink(missing_ok=True)

    def part(self, name: str, arrays: Arrays) -> Part:
        """A finished shard to be read in stretches; without a directory, the arrays themselves."""
        return ArraysHere(arrays) if self.directory is None else StoredArrays(self._file(name))

    def names(self) -> Iterator[str]:
        """The names of all shards that are kept, in no order."""
        return iter([] if self.directory is None else [file.stem for file in self.directory.glob("*.npz")])

    def remove(self, name: str) -> None:
        """Delete the shard ``name``, if it is kept."""
        if self.directory is not None:
            self._file(name).unlink(missing_ok=True)

    def beside(self, name: str) -> Path:
        """The path of a file of another kind in the directory, which must exist; `clear` removes ``.parquet`` files."""
        assert self.directory is not None
        return self.directory / name

    def _file(self, name: str) -> Path:
        return self.beside(f"{name}.npz")
