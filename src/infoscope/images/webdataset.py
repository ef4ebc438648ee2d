"""Images in webdataset shards: tar files in which the files of one sample share a name."""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from jaxtyping import Int64

from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.classes import ClassNumbers, number_classes
from infoscope.images.folder import CONTAINER_SUFFIXES, CONVERT, UNREAD_SUFFIXES, not_read, readable_suffixes
from infoscope.images.stored import EncodedSource, StoredIn
from infoscope.images.tar import Member, tar_members
from infoscope.runtime.progress import progress
from infoscope.runtime.text import decode_text

_LOGGER = logging.getLogger(__name__)
# Reading headers is mostly waiting for the disk.
INDEX_THREADS = 8
# Our choice: so many are indexed within seconds, and need no bar.
QUIET_SHARDS = 32


class WebDatasetSource(EncodedSource):
    """The picture of every sample in tar shards.

    A sample is the files of one key in a shard; the key is the name up to the first dot after the last slash. Its
    picture is the first file in the tar's order whose suffix Pillow reads; a file named by that suffix alone
    (``7.jpg``) comes before one whose name says more (``7.depth.png``). Everything else is ignored, hidden files and
    links too.

    An image's id is ``shard/member``, the shard named below the folder that all shards share; the order is the byte
    order of ids. Of a name that a tar holds twice the last counts, as when it is unpacked.

    Each tar's headers are read once, when the source is opened. Nothing stays open: an image opens its shard for one
    read, which costs microseconds beside decoding, so threads and other processes need no care.

    Args:
        shards: the tar files.
        name: the source as the user named it.

    Raises:
        InfoscopeError: a shard cannot be read, is compressed, is not a tar, or is cut short or damaged.
    """

    files: list[Path]
    ids: MemberIds

    def __init__(self, shards: Sequence[Path], name: str):
        named = zip(_names_below_common_folder(shards), (shard.absolute() for shard in shards), strict=True)
        # Sorted with the slash, as in an id: "a.tar/" comes after "a.tar-2.tar/".
        names, files = zip(*sorted(named, key=lambda pair: f"{pair[0]}/".encode()), strict=True)
        contents = _index(files)
        members = [[picture.name for picture in shard.pictures] for shard in contents]
        super().__init__(name, MemberIds(names, members), list(files))
        self._shard_names: list[str] = list(names)
        self._offset = [np.array([picture.offset for picture in shard.pictures], np.int64) for shard in contents]
        self._size = [np.array([picture.size for picture in shard.pictures], np.int64) for shard in contents]
        self.notes = _notes(self._shard_names, contents)
        for note in self.notes:
            _LOGGER.warning("%s: %s", self.name, note)

    def encoded(self, index: int) -> bytes:
        """See `EncodedSource`."""
        shard, member = self.ids.locate(index)
        file, size = self.files[shard], int(self._size[shard][member])
        try:
            with file.open("rb", buffering=0) as stream:
                stream.seek(int(self._offset[shard][member]))
                encoded = stream.read(size)
        except OSError as error:
            raise UnreadableImageError(f"{file.name}: {error.strerror}") from error
        if len(encoded) != size:
            raise UnreadableImageError(f"{file.name} is shorter than when it was indexed")
        return encoded

    def stored_in(self) -> StoredIn:
        """The shards."""
        first = np.cumsum([0, *(len(offsets) for offsets in self._offset)])[:-1].tolist()
        return StoredIn(self.files, first, len(self))

    def class_numbers(self, column: str | None = None) -> ClassNumbers:
        """Every sample's class, from a small file beside its picture.

        The shards' headers are read once more, and no picture.

        Args:
            column: the suffix of that file; ``cls`` by default.

        Raises:
            InfoscopeError: a sample has no such file.
        """
        suffix = column or "cls"
        labels: list[str] = []
        with progress("Labels", len(self.files), "shards", enabled=len(self.files) > QUIET_SHARDS) as advance:
            first = 0
            for shard, name, offsets in zip(self.files, self._shard_names, self._offset, strict=True):
                label_of = _texts(shard, suffix)
                for image_id in self.ids[first : first + len(offsets)]:
                    label = label_of.get(_key(image_id[len(name) + 1 :]))
                    if label is None:
                        raise InfoscopeError(
                            f"the sample of {image_id} has no .{suffix} file, so no label: name the "
                            "suffix that has one (--labels column:SUFFIX)"
                        )
                    labels.append(label)
                first += len(offsets)
                advance()
        return number_classes(labels, None, self.name)


class MemberIds(Sequence[str]):
    """``shard/member`` for the members of several shards, of which only the bytes of the names are kept.

    A string for each of a million members would take several times the room.

    Args:
        shards: the shards' names.
        members: each shard's member names in UTF-8, in order.

    Example:
        >>> ids = MemberIds(["a.tar", "b.tar"], [[b"1.jpg", b"2.jpg"], [b"1.jpg"]])
        >>> list(ids), ids[-1], ids[1:]
        (['a.tar/1.jpg', 'a.tar/2.jpg', 'b.tar/1.jpg'], 'b.tar/1.jpg', ['a.tar/2.jpg', 'b.tar/1.jpg'])
        >>> ids.locate(2)                               # the first member of the second shard
        (1, 0)
    """

    def __init__(self, shards: Sequence[str], members: Sequence[Sequence[bytes]]):
        self._shards = list(shards)
        self._starts = _offsets([len(names) for names in members])
        self._names = b"".join(name for names in members for name in names)
        self._ends = _offsets([len(name) for names in members for name in names])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """The number of an image's shard, and its number within that shard.

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
            return [self[position] for position in range(len(self))[index]]
        shard, member = self.locate(index)
        start, stop = self._ends[self._starts[shard] + member :][:2]
        return f"{self._shards[shard]}/{self._names[start:stop].decode()}"

    def __iter__(self) -> Iterator[str]:
        for shard, first, last in zip(self._shards, self._starts[:-1], self._starts[1:], strict=True):
            for start, stop in pairwise(self._ends[first : last + 1].tolist()):
                yield f"{shard}/{self._names[start:stop].decode()}"


def _offsets(lengths: Sequence[int]) -> Int64[np.ndarray, " bound"]:
    """Where consecutive stretches of some lengths begin, and where the last one ends."""
    return np.cumsum([0, *lengths], dtype=np.int64)


def _names_below_common_folder(files: Sequence[Path]) -> list[str]:
    """The shortest names that tell files apart: their paths below the folder that all share, with forward slashes.

    Example:
        >>> _names_below_common_folder([Path("/d/a/x.tar"), Path("/d/b/x.tar")])
        ['a/x.tar', 'b/x.tar']
        >>> _names_below_common_folder([Path("/d/a/x.tar")])
        ['x.tar']
    """
    common = os.path.commonpath([file.parent for file in files])
    return [os.fsencode(file.relative_to(common).as_posix()).decode("utf-8", "backslashreplace") for file in files]


class _Contents(NamedTuple):
    """What a shard holds.

    Attributes:
        pictures: one for each sample, by the bytes of their names.
        hidden: names of pictures that are lost because another one of their sample counts, with that one's name.
        unread: names of pictures of a kind that is not read.
    """

    pictures: list[Member]
    hidden: list[tuple[str, str]]
    unread: list[str]


def _index(shards: Sequence[Path]) -> list[_Contents]:
    executor = ThreadPoolExecutor(INDEX_THREADS, thread_name_prefix="index")
    contents = []
    try:
        with progress("Indexing", len(shards), "shards", enabled=len(shards) > QUIET_SHARDS) as advance:
            for shard in executor.map(_contents, shards):
                contents.append(shard)
                advance()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
    return contents


def _notes(names: Sequence[str], contents: Sequence[_Contents]) -> list[str]:
    """Which pictures in the shards are not read, one line for each reason."""
    shards = list(zip(names, contents, strict=True))
    hidden = [f"{name}/{chosen} hides {lost}" for name, shard in shards for lost, chosen in shard.hidden]
    unread = [f"{name}/{picture}" for name, shard in shards for picture in shard.unread]
    why_hidden = "in a sample with another picture, since a sample's name ends at the first dot"
    lines = (
        (hidden, why_hidden, "name files without such dots to read them all"),
        (unread, "of a kind that is not read", CONVERT),
    )
    return [not_read(f"picture{'s' * (len(lost) > 1)} {why}", lost, advice) for lost, why, advice in lines if lost]


def _key(name: str) -> str:
    """What the files of one sample share: the name up to the first dot after the last slash."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _texts(shard: Path, suffix: str) -> dict[str, str]:
    """The content of each sample's file of one suffix, by the sample's key."""
    texts = {}
    try:
        with shard.open("rb", buffering=0) as file:
            for member in tar_members(shard):
                name = _stored_name(member)
                if name.rpartition("/")[2].partition(".")[2] == suffix:
                    file.seek(member.offset)
                    texts[_key(name)] = decode_text(file.read(member.size), f"{name} in {shard}").strip()
    except OSError as error:
        raise InfoscopeError(
            f"cannot read {shard}: {error.strerror or error}; check its permissions, or fetch it again"
        ) from error
    return texts


def _stored_name(member: Member) -> str:
    """A member's name as in an id: relative, without the "./" of `tar -c .`."""
    return posixpath.normpath(member.name.decode("utf-8", "backslashreplace")).lstrip("/")


def _contents(shard: Path) -> _Contents:
    suffixes = readable_suffixes()
    unreadable = UNREAD_SUFFIXES - CONTAINER_SUFFIXES - suffixes
    chosen: dict[str, tuple[bool, Member]] = {}
    hidden: dict[bytes, str] = {}
    unread: dict[str, str] = {}
    for member in tar_members(shard):
        name = _stored_name(member)
        stem, _, extension = name.rpartition("/")[2].partition(".")
        suffix = f".{extension.rpartition('.')[2].lower()}"
        if not stem or suffix not in suffixes:
            if stem and suffix in unreadable:
                unread[name] = _key(name)
            continue
        key, says_more = _key(name), "." in extension
        picture = Member(name.encode(), member.offset, member.size)
        before = chosen.get(key)
        if before is None or before[1].name == picture.name or says_more < before[0]:
            chosen[key] = (says_more, picture)
        if before is not None and before[1].name != picture.name:
            loser = picture if chosen[key][1] is not picture else before[1]
            if _is_picture_of_its_own(loser.name, *chosen[key]):
                hidden[loser.name] = key
    # A later member may have been chosen since, so each loser is judged again beside the one that counts.
    return _Contents(
        sorted(picture for _, picture in chosen.values()),
        [
            (name.decode(), chosen[key][1].name.decode())
            for name, key in hidden.items()
            if _is_picture_of_its_own(name, *chosen[key])
        ],
        [name for name, key in unread.items() if key not in chosen],
    )


def _is_picture_of_its_own(name: bytes, says_more: bool, chosen: Member) -> bool:
    """Whether a lost picture is no companion of the one that counts, as ``7.depth.png`` is of ``7.jpg``.

    Where both names say more (``a.b.jpg`` and ``a.c.jpg``), or both end alike, a name with a dot was cut short.
    """
    same_kind = name.rpartition(b".")[2].lower() == chosen.name.rpartition(b".")[2].lower()
    return name != chosen.name and (says_more or same_kind)
