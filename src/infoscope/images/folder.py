"""A folder of image files."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.decode import read_file
from infoscope.images.outputs import kind_of_output
from infoscope.images.stored import EncodedSource, StoredIn

_LOGGER = logging.getLogger(__name__)

# Pictures that take another program, or a plugin of Pillow's, to be read.
_UNREAD_PICTURES = """heic heics heif heifs hif avif avifs jxl jxr wdp hdp bpg flif svg svgz eps ps ai wmf emf exr hdr
psb xcf kra clip dng cr2 cr3 crw nef nrw arw sr2 srf srw orf rw2 rwl raf pef ptx x3f 3fr fff erf kdc dcr dcs k25 mrw
mef mos iiq gpr raw webp2 jls jph djvu ktx ktx2"""
# Files that may hold pictures, and that are not opened where a folder has image files as well.
CONTAINER_SUFFIXES = frozenset({".tar", ".tgz", ".parquet", ".arrow", ".zip"})
UNREAD_SUFFIXES = CONTAINER_SUFFIXES | {f".{name}" for name in _UNREAD_PICTURES.split()}
CONVERT, NAME_ALONE = "convert them to JPEG or PNG", "name them alone to read what they hold"
# Pillow recognises these but cannot decode them on its own.
IDENTIFIED_ONLY = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# How many files of a kind a note names before it only counts.
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


class FileSource(EncodedSource):
    """Image files.

    Args:
        ids: one id per image, in the byte order of ids.
        files: their paths.
        name: the source as the user named it.
    """

    files: Sequence[str]

    def __init__(self, ids: Sequence[str], files: Sequence[str], name: str):
        super().__init__(name, ids, files)

    def encoded(self, index: int) -> bytes:
        """See `EncodedSource`."""
        return read_file(Path(self.files[index]))

    def stored_in(self) -> StoredIn:
        """Each image in a file of its own."""
        return StoredIn(self.files, range(len(self.files)), len(self.files))

    def subset(self, rows: Iterable[int]) -> FileSource:
        """A source of some of the images, in the order of ``rows``, which ascends."""
        rows = list(rows)
        subset = FileSource([self.ids[row] for row in rows], [self.files[row] for row in rows], self.name)
        subset.notes = list(self.notes)
        return subset


class FolderSource(FileSource):
    """Every image file under a folder. Links are followed, hidden files are left out.

    An image's id is its path relative to the folder, with forward slashes. The order is the byte order of ids, so it
    does not depend on the file system or the locale. Bytes of a name that are not UTF-8 are escaped in the id.

    Directories that infoscope wrote, such as a run with its report, are left out and named. Image files of kinds that
    cannot be read, pipes and devices are counted and named; they have no index.

    Raises:
        InfoscopeError: the folder itself is a run or a report, or a folder in it cannot be read.
    """

    def __init__(self, path: Path, name: str | None = None):
        search = search_below(path.absolute())
        if search.root in ("run", "report"):
            raise InfoscopeError(
                f"{name or path} is a {search.root} that infoscope wrote, and its pictures are thumbnails; name the "
                "folder of the photographs themselves, or a folder of the pictures in it"
            )
        in_order = sorted(search.files, key=lambda entry: (entry[0].encode("utf-8"), entry[1]))
        super().__init__([image_id for image_id, _ in in_order], [file for _, file in in_order], name or str(path))
        self.notes = search.notes()
        # Without images, `open_images` either reports the notes in its error or reads the folder as shards.
        for note in self.notes if len(self) else ():
            _LOGGER.warning("%s: %s", self.name, note)
        if search.own:
            named = ", ".join(f"{folder} ({kind})" for folder, kind in sorted(search.own))
            _LOGGER.info("%s: what infoscope wrote is left out: %s", self.name, named)


@dataclass
class Search:
    """What a search below a folder came upon.

    Attributes:
        files: id and path of each file that was looked for.
        unread: ids of pictures and containers of pictures that are not read, by suffix.
        special: ids of pipes, devices and sockets that have the suffix of a picture.
        own: id and kind of each directory that infoscope wrote.
        root: the kind of the folder itself, where infoscope wrote it.
    """

    files: list[tuple[str, str]] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=dict)
    special: list[str] = field(default_factory=list)
    own: list[tuple[str, str]] = field(default_factory=list)
    root: str | None = None

    def notes(self) -> list[str]:
        """What is not read, one line for each kind, in a fixed order."""
        lines = []
        for suffix, ids in sorted(self.unread.items()):
            advice = NAME_ALONE if suffix in CONTAINER_SUFFIXES else CONVERT
            lines.append(not_read(f"{suffix} file{'s' if len(ids) > 1 else ''}", ids, advice))
        if self.special:
            lines.append(not_read("that are pipes or devices, no files", self.special))
        return lines


def not_read(what: str, ids: Collection[str], advice: str = "") -> str:
    """A line on files that are not read: how many, of what kind, and the names of the first.

    Example:
        >>> not_read(".heic files", ["b.heic", "a.heic"])
        'not read: 2 .heic files (a.heic, b.heic)'
    """
    named = ", ".join(sorted(ids)[:NAMED]) + (", ..." if len(ids) > NAMED else "")
    return f"not read: {len(ids)} {what} ({named})" + (f"; {advice}" if advice else "")


def search_below(root: Path, suffixes: Collection[str] | None = None) -> Search:
    """Search a folder for image files. A directory that links reach twice is read once.

    Directories that infoscope wrote are left out, except for the folder itself: whoever names one means it.

    Args:
        root: the folder.
        suffixes: the suffixes to look for, in lower case; by default those that Pillow reads.

    Raises:
        InfoscopeError: a folder cannot be read.
    """
    suffixes = readable_suffixes() if suffixes is None else suffixes
    search = Search()
    for folder, entries in _walk(root, search):
        for entry in entries:
            suffix = Path(entry.name).suffix.lower()
            looked_for = suffix in suffixes
            if entry.name.startswith(".") or not (looked_for or suffix in UNREAD_SUFFIXES):
                continue
            file = str(Path(folder) / entry.name)
            image_id = _id(file, root)
            if _is_special(entry):
                if looked_for:
                    search.special.append(image_id)
            elif looked_for:
                search.files.append((image_id, file))
            else:
                search.unread.setdefault(suffix, []).append(image_id)
    return search


def _walk(root: Path, search: Search) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Each folder below ``root`` with its entries other than folders; infoscope's own folders are noted instead."""
    visited: set[tuple[int, int]] = set()
    waiting = [str(root)]
    while waiting:
        folder = waiting.pop()
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as scan:
                entries = list(scan)
        except OSError as error:
            raise InfoscopeError(
                f"cannot read the folder {error.filename}: {error.strerror}; check its permissions"
            ) from error
        kind = kind_of_output(Path(folder), {entry.name for entry in entries})
        if kind is not None and folder == str(root):
            search.root = kind
        elif kind is not None:
            search.own.append((_id(folder, root), kind))
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
    """Whether an entry exists and is not a file. A link to nothing is an unreadable image, and keeps its index."""
    try:
        return not entry.is_file() and Path(entry.path).exists()
    except OSError:
        return False


def _id(file: str, root: Path) -> str:
    return os.fsencode(Path(file).relative_to(root).as_posix()).decode("utf-8", "backslashreplace")
