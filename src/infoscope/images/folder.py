"""A folder of image files."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NoReturn

from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.decode import decode, read_file
from infoscope.images.ids import StoredIn
from infoscope.images.own import kind_of_own
from infoscope.runtime.file_states import stamp_files

_LOGGER = logging.getLogger(__name__)

_UNREAD_PICTURES = """heic heics heif heifs hif avif avifs jxl jxr wdp hdp bpg flif svg svgz eps ps ai wmf emf exr hdr
psb xcf kra clip dng cr2 cr3 crw nef nrw arw sr2 srf srw orf rw2 rwl raf pef ptx x3f 3fr fff erf kdc dcr dcs k25 mrw
mef mos iiq gpr raw webp2 jls jph djvu ktx ktx2"""
_UNREAD_CONTAINERS = "tar tgz parquet arrow zip"

# Pillow recognises these but cannot decode them on its own.
IDENTIFIED_ONLY = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


# Pictures that take another program, or a plugin of Pillow's, to be read; and what holds pictures that a folder does
# not open where it has image files as well.
CONTAINER_SUFFIXES = frozenset(f".{name}" for name in _UNREAD_CONTAINERS.split())
UNREAD_SUFFIXES = CONTAINER_SUFFIXES | {f".{name}" for name in _UNREAD_PICTURES.split()}
ADVICE = ("convert them to JPEG or PNG", "name them alone to read what they hold")
# So many files of a kind are named.
NAMED = 3


@cache
def readable_suffixes() -> frozenset[str]:
    """The file suffixes Pillow can decode, in lower case.

    Example:
        >>> {".jpg", ".png", ".webp"} <= readable_suffixes()
        True
    """
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in Image.OPEN and kind not in IDENTIFIED_ONLY)


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
        self.notes: list[str] = []
        """Which files are no images of this source although they look like some, a line each."""

    def stamp(self) -> str:
        """SHA-256 over every file's size and time of change."""
        return stamp_files(self.files)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        return self.decoded(index, self.encoded(index))

    def encoded(self, index: int) -> bytes:
        """A file's bytes.

        Raises:
            UnreadableImageError: it cannot be read.
        """
        return read_file(Path(self.files[index]))

    def decoded(self, index: int, encoded: bytes) -> Image.Image:
        """The picture in a file's bytes.

        Raises:
            UnreadableImageError: as for `decode`.
        """
        return decode(io.BytesIO(encoded))

    def stored_in(self) -> StoredIn:
        """Each image in a file of its own."""
        return StoredIn(self.files, range(len(self.files)), len(self.files))

    def kept(self, rows: Iterable[int]) -> FileSource:
        """Some of the images, in the order of ``rows``, which ascends."""
        rows = list(rows)
        some = FileSource([self.ids[row] for row in rows], [self.files[row] for row in rows], self.name)
        some.notes = list(self.notes)
        return some


class FolderSource(FileSource):
    """Every image file under a folder, links followed, hidden files left out.

    An image's id is its path relative to the folder, with forward slashes; the order is the byte order of ids, so it
    does not depend on the file system or the locale. Bytes of a name that are not UTF-8 are escaped in the id.

    Directories that infoscope wrote, such as a run with its site, are left out and named. Image files of kinds that
    cannot be read, and pipes and devices, are counted and named; they have no index.

    Raises:
        InfoscopeError: the folder itself is a run or a site, or a folder in it cannot be read.
    """

    def __init__(self, path: Path, name: str | None = None):
        search = search_below(path.absolute())
        if search.root in ("run", "site"):
            raise InfoscopeError(
                f"{name or path} is a {search.root} that infoscope wrote, and its pictures are thumbnails; name the "
                "folder of the photographs themselves, or a folder of the pictures in it"
            )
        found = sorted((relative.encode("utf-8"), relative, file) for relative, file in search.files)
        super().__init__([relative for _, relative, _ in found], [file for _, _, file in found], name or str(path))
        self.notes = search.not_read()
        for note in self.notes if len(self) else ():  # without images there is an error, or it is read as shards
            _LOGGER.warning("%s: %s", self.name, note)
        if search.own:
            named = ", ".join(f"{folder} ({kind})" for folder, kind in sorted(search.own))
            _LOGGER.info("%s: what infoscope wrote is left out: %s", self.name, named)


@dataclass
class Search:
    """What was found below a folder.

    Attributes:
        files: id and path of each file that is looked for.
        unread: ids of pictures, and of what holds pictures, that are not read, by suffix.
        special: ids of pipes, devices and sockets with the suffix of a picture.
        own: id and kind of each directory that infoscope wrote.
        root: the kind of the folder itself, where infoscope wrote it.
    """

    files: list[tuple[str, str]] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=dict)
    special: list[str] = field(default_factory=list)
    own: list[tuple[str, str]] = field(default_factory=list)
    root: str | None = None

    def not_read(self) -> list[str]:
        """What is not read, a line for each kind, in a fixed order."""
        lines = [
            not_read(f"{suffix} file{'s' if len(ids) > 1 else ''}", ids, ADVICE[suffix in CONTAINER_SUFFIXES])
            for suffix, ids in sorted(self.unread.items())
        ]
        if self.special:
            lines.append(not_read("that are pipes or devices, no files", self.special))
        return lines


def not_read(what: str, ids: Collection[str], advice: str = "") -> str:
    """A line on files that are not read: how many, of what kind, and the first by name.

    Example:
        >>> not_read(".heic files", ["b.heic", "a.heic"])
        'not read: 2 .heic files (a.heic, b.heic)'
    """
    named = ", ".join(sorted(ids)[:NAMED]) + (", ..." if len(ids) > NAMED else "")
    return f"not read: {len(ids)} {what} ({named})" + (f"; {advice}" if advice else "")


def files_below(root: Path, suffixes: Collection[str] | None = None) -> list[tuple[str, str]]:
    """(id, path) of each image file under ``root``; see `search_below`."""
    return search_below(root, suffixes).files


def search_below(root: Path, suffixes: Collection[str] | None = None) -> Search:
    """Look for image files under a folder; a directory reached twice through links is read once.

    Directories that infoscope wrote are left out, but for the folder itself: whoever names one means it.

    Args:
        root: the folder.
        suffixes: those to look for, in lower case; what Pillow reads when not given.

    Raises:
        InfoscopeError: a folder cannot be read.
    """
    suffixes = readable_suffixes() if suffixes is None else suffixes
    found = Search()
    for folder, entries in _walk(root, found):
        for entry in entries:
            suffix = _suffix(entry.name)
            looked_for = suffix in suffixes
            if entry.name.startswith(".") or not (looked_for or suffix in UNREAD_SUFFIXES):
                continue
            file = str(Path(folder) / entry.name)
            image_id = _id(file, root)
            if _is_special(entry):
                if looked_for:
                    found.special.append(image_id)
            elif looked_for:
                found.files.append((image_id, file))
            else:
                found.unread.setdefault(suffix, []).append(image_id)
    return found


def _walk(root: Path, found: Search) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Each folder below ``root`` that is not infoscope's own, with what it holds beside folders."""
    seen: set[tuple[int, int]] = set()
    waiting = [str(root)]
    while waiting:
        folder = waiting.pop()
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as opened:
                entries = list(opened)
        except OSError as error:
            _refuse(error)
        kind = kind_of_own(Path(folder), {entry.name for entry in entries})
        if kind is not None and folder == str(root):
            found.root = kind
        elif kind is not None:
            found.own.append((_id(folder, root), kind))
            continue
        below = {entry.name for entry in entries if _is_folder(entry)}
        yield folder, [entry for entry in entries if entry.name not in below]
        # In a fixed order, so that which of two links to one directory counts does not depend on the file system.
        visible = sorted((name for name in below if not name.startswith(".")), reverse=True)
        waiting += [str(Path(folder) / name) for name in visible]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, say
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is there and is no file. A link to nothing is an image that cannot be read, with its index."""
    try:
        return not entry.is_file() and Path(entry.path).exists()
    except OSError:
        return False


def _id(file: str, root: Path) -> str:
    """A path below the root as an id."""
    return os.fsencode(Path(file).relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _refuse(error: OSError) -> NoReturn:
    raise InfoscopeError(f"cannot read the folder {error.filename}: {error.strerror}; check its permissions") from error
