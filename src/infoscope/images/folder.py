"""A folder of image files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.decode import decode

# Pillow recognises these but cannot decode them on its own.
IDENTIFIED_ONLY = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


@cache
def readable_suffixes() -> frozenset[str]:
    """The file suffixes Pillow can decode, in lower case.

    Example:
        >>> {".jpg", ".png", ".webp"} <= readable_suffixes()
        True
    """
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in Image.OPEN and kind not in IDENTIFIED_ONLY)


def stamp_files(files: Iterable[str | Path]) -> str:
    """SHA-256 over the size and time of change of files, in order."""
    digest = hashlib.sha256()
    for file in files:
        try:
            status = Path(file).stat()
        except OSError:  # a link to nothing, say: it will be skipped
            digest.update(b"unreadable\n")
        else:
            digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class FileSource:
    """Image files.

    Args:
        ids: one an image, in the byte order of ids.
        files: their paths.
        name: the source as the user named it.
    """

    def __init__(self, ids: Sequence[str], files: Sequence[str], name: str):
        self.name = name
        self.fingerprint = ""
        self.ids = ids
        self.files = files

    def stamp(self) -> str:
        """SHA-256 over every file's size and time of change."""
        return stamp_files(self.files)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        return decode(Path(self.files[index]))

    def kept(self, rows: Iterable[int]) -> FileSource:
        """Some of the images, in the order of ``rows``, which ascends."""
        rows = list(rows)
        return FileSource([self.ids[row] for row in rows], [self.files[row] for row in rows], self.name)


class FolderSource(FileSource):
    """Every image file under a folder, links followed, hidden files left out.

    An image's id is its path relative to the folder, with forward slashes; the order is the byte order of ids, so it
    does not depend on the file system or the locale. Bytes of a name that are not UTF-8 are escaped in the id.
    """

    def __init__(self, path: Path, name: str | None = None):
        found = sorted((relative.encode("utf-8"), relative, file) for relative, file in files_below(path.absolute()))
        super().__init__([relative for _, relative, _ in found], [file for _, _, file in found], name or str(path))


def files_below(root: Path, suffixes: Collection[str] | None = None) -> list[tuple[str, str]]:
    """(id, path) of each image file under ``root``; a directory reached twice through links is read once.

    Args:
        root: the folder.
        suffixes: those to look for, in lower case; what Pillow reads when not given.
    """
    suffixes = readable_suffixes() if suffixes is None else suffixes
    seen: set[tuple[int, int]] = set()
    files = []
    for folder, folders, names in os.walk(root, onerror=_refuse, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # In a fixed order, so that which of two links to one directory counts does not depend on the file system.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                file = str(Path(folder) / name)
                relative = Path(file).relative_to(root).as_posix()
                files.append((os.fsencode(relative).decode("utf-8", "backslashreplace"), file))
    return files


def _refuse(error: OSError) -> None:
    raise InfoscopeError(f"cannot read the folder {error.filename}: {error.strerror}; check its permissions") from error
