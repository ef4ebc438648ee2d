"""Images in webdataset shards: tar files in which the files of one sample share a name."""

from __future__ import annotations

import io
import logging
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.class_numbers import ClassNumbers, number_classes
from infoscope.images.decode import UnreadableImageError, decode
from infoscope.images.folder import ADVICE, CONTAINER_SUFFIXES, NAMED, UNREAD_SUFFIXES, readable_suffixes
from infoscope.images.ids import MemberIds, StoredIn
from infoscope.images.patterns import matching_files, names_below_common_folder
from infoscope.images.tar import Member, tar_members
from infoscope.runtime.file_states import stamp_files
from infoscope.runtime.progress import progress
from infoscope.runtime.text import decode_text

_LOGGER = logging.getLogger(__name__)
HIDDEN_ADVICE = "name files without such dots to read them all"
# Headers are waited for more than worked on.
INDEX_THREADS = 8
# Our choice: so many are indexed within seconds, and need no bar.
QUIET_SHARDS = 32
COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class WebDatasetSource:
    """The picture of every sample in tar shards.

    A sample is the files of one key in a shard; the key is the name up to the first dot after the last slash. Its
    picture is the first file in the tar's order whose suffix Pillow reads; a file named by that suffix alone
    (``7.jpg``) comes before one whose name says more (``7.depth.png``). Everything else is ignored, hidden files and
    links too.

    An image's id is ``shard/member``, the shard named below the folder that all shards share; the order is the byte
    order of ids. Of a name that a tar holds twice the last counts, as when it is unpacked.

    Each tar's headers are read once, here. Nothing stays open: an image opens its shard for one read, which costs
    microseconds beside decoding, so threads and other processes need no care.

    Args:
        shards: the tar files.
        name: the source as the user named it.

    Raises:
        InfoscopeError: a shard cannot be read, is compressed, is no tar, or is cut short or damaged.
    """

    def __init__(self, shards: Sequence[Path], name: str):
        self.name = name
        self.fingerprint = ""
        named = zip(names_below_common_folder(shards), (shard.absolute() for shard in shards), strict=True)
        # With the slash, as in an id: "a.tar/" comes after "a.tar-2.tar/".
        names, paths = zip(*sorted(named, key=lambda pair: f"{pair[0]}/".encode()), strict=True)
        self._shards: list[Path] = list(paths)
        self._shard_names: list[str] = list(names)
        members, self.notes = _index(self._shards, self._shard_names)
        for note in self.notes:
            _LOGGER.warning("%s: %s", self.name, note)
        self.ids = MemberIds(names, [[member.name for member in shard] for shard in members])
        self._offset = [np.array([member.offset for member in shard], np.int64) for shard in members]
        self._size = [np.array([member.size for member in shard], np.int64) for shard in members]

    def stamp(self) -> str:
        """SHA-256 over every shard's size and time of change."""
        return stamp_files(self._shards)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        return self.decoded(index, self.encoded(index))

    def encoded(self, index: int) -> bytes:
        """A member's bytes.

        Raises:
            UnreadableImageError: they cannot be read.
        """
        shard, member = self.ids.place(index)
        size = int(self._size[shard][member])
        try:
            with self._shards[shard].open("rb", buffering=0) as file:
                file.seek(int(self._offset[shard][member]))
                encoded = file.read(size)
        except OSError as error:
            raise UnreadableImageError(f"{self._shards[shard].name}: {error.strerror}") from error
        if len(encoded) != size:
            raise UnreadableImageError(f"{self._shards[shard].name} is shorter than when it was indexed")
        return encoded

    def decoded(self, index: int, encoded: bytes) -> Image.Image:
        """The picture in a member's bytes.

        Raises:
            UnreadableImageError: as for `decode`.
        """
        return decode(io.BytesIO(encoded))

    def stored_in(self) -> StoredIn:
        """The shards."""
        first = np.cumsum([0, *(len(offsets) for offsets in self._offset)])[:-1].tolist()
        return StoredIn(self._shards, first, len(self))

    def class_numbers(self, column: str | None = None) -> ClassNumbers:
        """Every sample's class, from a small file of it; the shards' headers are read once more, and no picture.

        Args:
            column: that file's suffix; ``cls`` when not given.

        Raises:
            InfoscopeError: a sample has no such file.
        """
        suffix = column or "cls"
        values: list[str] = []
        with progress("Labels", len(self._shards), "shards", enabled=len(self._shards) > QUIET_SHARDS) as advance:
            first = 0
            for shard, name, offsets in zip(self._shards, self._shard_names, self._offset, strict=True):
                found = _texts(shard, suffix)
                for image_id in self.ids[first : first + len(offsets)]:
                    text = found.get(_key(image_id[len(name) + 1 :]))
                    if text is None:
                        raise InfoscopeError(
                            f"the sample of {image_id} has no .{suffix} file, so no label: name the "
                            "suffix that has one (--labels column:SUFFIX)"
                        )
                    values.append(text)
                first += len(offsets)
                advance()
        return number_classes(values, None, self.name)


def open_shards(pattern: str) -> WebDatasetSource:
    """The shards that a path, a glob or a brace pattern names (see `matching_files`).

    Raises:
        InfoscopeError: as for `WebDatasetSource` and `matching_files`.
    """
    if names_compressed(pattern):
        raise InfoscopeError(
            f"{pattern} is compressed: its images cannot be found one by one; unpack it to a .tar (gunzip, unxz, ...)"
        )
    return WebDatasetSource(matching_files(pattern), pattern)


def names_compressed(name: str) -> bool:
    """Whether a name is that of a compressed tar."""
    return name.lower().endswith(COMPRESSED_SUFFIXES)


def _index(shards: Sequence[Path], names: Sequence[str]) -> tuple[list[list[Member]], list[str]]:
    """Each shard's pictures, by the bytes of their names; and what is not read although it looks like one, in lines."""
    executor = ThreadPoolExecutor(INDEX_THREADS, thread_name_prefix="index")
    members, hidden, unread = [], Unread(), Unread()
    try:
        with progress("Indexing", len(shards), "shards", enabled=len(shards) > QUIET_SHARDS) as advance:
            for name, found in zip(names, executor.map(_pictures, shards), strict=True):
                members.append(found.pictures)
                hidden.add(name, [f"{hiding} hides {member}" for member, hiding in found.hidden])
                unread.add(name, found.unread)
                advance()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
    return members, [
        *hidden.lines("in a sample with another picture, since a sample's name ends at the first dot", HIDDEN_ADVICE),
        *unread.lines("of a kind that is not read", ADVICE[False]),
    ]


@dataclass
class Unread:
    """What is not read, over all shards: how many, and the first by name."""

    count: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, shard: str, names: Sequence[str]) -> None:
        """Count some of a shard's members."""
        self.count += len(names)
        self.named += [f"{shard}/{name}" for name in sorted(names)[: max(0, NAMED - len(self.named))]]

    def lines(self, what: str, advice: str) -> list[str]:
        """One line, or none where all is read."""
        more = ", ..." if self.count > len(self.named) else ""
        pictures = "picture" if self.count == 1 else "pictures"
        return (
            [f"not read: {self.count} {pictures} {what} ({', '.join(self.named)}{more}); {advice}"]
            if self.count
            else []
        )


class Found(NamedTuple):
    """A shard's pictures, by the bytes of their names; members that another of their sample hides; unread pictures."""

    pictures: list[Member]
    hidden: list[tuple[str, str]]
    unread: list[str]


def _key(name: str) -> str:
    """What the files of one sample share: the name up to the first dot after the last slash."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _texts(shard: Path, suffix: str) -> dict[str, str]:
    """The content of each sample's file of one suffix, by the sample's key."""
    found = {}
    try:
        with shard.open("rb", buffering=0) as file:
            for member in tar_members(shard):
                name = _stored_name(member)
                if name.rpartition("/")[2].partition(".")[2] == suffix:
                    file.seek(member.offset)
                    found[_key(name)] = decode_text(file.read(member.size), f"{name} in {shard}").strip()
    except OSError as error:
        raise InfoscopeError(
            f"cannot read {shard}: {error.strerror or error}; check its permissions, or fetch it again"
        ) from error
    return found


def _stored_name(member: Member) -> str:
    """A member's name as in an id: relative, without the "./" of `tar -c .`."""
    return posixpath.normpath(member.name.decode("utf-8", "backslashreplace")).lstrip("/")


def _pictures(shard: Path) -> Found:
    suffixes = readable_suffixes()
    unreadable = UNREAD_SUFFIXES - CONTAINER_SUFFIXES - suffixes
    chosen: dict[str, tuple[bool, Member]] = {}
    hidden: dict[bytes, str] = {}
    unread: dict[str, str] = {}
    for member in tar_members(shard):
        name = _stored_name(member)
        base = name.rpartition("/")[2]
        stem, _, extension = base.partition(".")
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
    return Found(
        sorted(picture for _, picture in chosen.values()),
        [
            (name.decode(), chosen[key][1].name.decode())
            for name, key in hidden.items()
            if _is_picture_of_its_own(name, *chosen[key])
        ],
        [name for name, key in unread.items() if key not in chosen],
    )


def _is_picture_of_its_own(name: bytes, says_more: bool, chosen: Member) -> bool:
    """Whether a picture that its sample's other one hides is no companion of it, such as ``7.depth.png`` of ``7.jpg``.

    Where both names say more (``a.b.jpg`` and ``a.c.jpg``), or both end alike, a name with a dot was cut short.
    """
    same_kind = name.rpartition(b".")[2].lower() == chosen.name.rpartition(b".")[2].lower()
    return name != chosen.name and (says_more or same_kind)
