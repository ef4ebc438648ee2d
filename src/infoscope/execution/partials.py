"""Shards of a stage, and their finished results on disk.

A stage is a pure function of a shard of images. Its result is kept as soon as it is whole, so a measurement that is
stopped goes on with the first shard that is missing.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from infoscope.errors import InfoscopeError
from infoscope.execution.parts import UNREADABLE, ArraysHere, Part, StoredArrays, check_members
from infoscope.storage.atomic import atomic_write, remove_leftovers

Arrays = dict[str, np.ndarray]


def shards(count: int, size: int) -> list[range]:
    """Cut ``count`` items into consecutive ranges of ``size``; the last may be shorter.

    Example:
        >>> shards(5, 2)
        [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


class Partials:
    """Finished shards, by name; without a directory nothing is kept and nothing is found.

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
        """Remove the kept shards, once what they were kept for is written."""
        for name in self.names():
            self.remove(name)
        if self.directory is not None:
            remove_leftovers(self.directory)
            for file in self.directory.glob("*.parquet"):
                file.unlink(missing_ok=True)

    def part(self, name: str, arrays: Arrays) -> Part:
        """What was kept under ``name``, to be read in stretches; without a directory, the arrays themselves."""
        return ArraysHere(arrays) if self.directory is None else StoredArrays(self._file(name))

    def names(self) -> Iterator[str]:
        """All that is kept, in no order."""
        return iter([] if self.directory is None else [file.stem for file in self.directory.glob("*.npz")])

    def remove(self, name: str) -> None:
        """Forget what is kept under ``name``, if anything is."""
        if self.directory is not None:
            self._file(name).unlink(missing_ok=True)

    def beside(self, name: str) -> Path:
        """A file of another kind in the same directory, which there must be; `clear` removes ``.parquet``."""
        assert self.directory is not None
        return self.directory / name

    def _file(self, name: str) -> Path:
        return self.beside(f"{name}.npz")
