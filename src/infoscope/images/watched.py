"""Noticing images that change: whatever is read again must be what was read first."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt64
from PIL import Image

from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.decode import decode
from infoscope.images.prefetch import ahead, decode_threads
from infoscope.images.source import ImageSource
from infoscope.images.stored import EncodedSource, StoredIn
from infoscope.runtime.atomic import remedy_of
from infoscope.runtime.file_states import digest_states, file_states, stamp_of
from infoscope.runtime.progress import progress

# In place of a hash: the image was not read yet; or it was tried and not a byte of it could be read.
UNREAD, UNREADABLE = 0, 1
# Our choice: so many small files are read again within seconds, and need no bar.
QUIET_IMAGES = 2000


class ChangedImageError(InfoscopeError):
    """An image is not what it was when it was read first, so results made from the two do not belong together."""


@runtime_checkable
class InFiles(Protocol):
    """A source whose images lie in files."""

    def stored_in(self) -> StoredIn:
        """The files, and which images lie in which."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A source that holds on to what it read last, to read it once for several images."""

    def forget(self) -> None:
        """Read the bytes again, whatever is asked for next."""


class Watched:
    """A source that refuses an image which has changed since it was read first.

    A hash of every image that is read is kept, eight bytes each, and compared whenever the image is read again: by a
    second pass, another block of a sweep, or a later start of the same command. The hash is over the stored bytes, or
    over the pixels where the source has no bytes. `check` compares the files' sizes and times with those at the
    beginning and reads only what differs there, so that files which were merely touched or copied count as unchanged.

    An image that could not be read at first stays left out for good, even if it could be read later, so that every
    pass is over the same images.

    Args:
        source: the images.

    Attributes:
        contents: the hash of each image; `UNREAD` or `UNREADABLE` where there is none.
        name: the source as the user named it.
        ids: one id per image, in order.
        notes: the source's notes, where it has any; see `infoscope.images.source.notes_of`.

    Example:
        >>> from infoscope.images.source import open_images
        >>> pixels = np.zeros((2, 8, 8, 3), np.uint8)
        >>> images = Watched(open_images(pixels))
        >>> images[1].size, (images.contents != UNREAD).tolist()
        ((8, 8), [False, True])
        >>> pixels[1] = 255
        >>> images[1]
        Traceback (most recent call last):
        ...
        infoscope.images.watched.ChangedImageError: 1 of arrays has changed since it was first read; ...
    """

    def __init__(self, source: ImageSource):
        self.source = source
        self.name = source.name
        self.ids = source.ids
        self.notes: Sequence[str] = getattr(source, "notes", ())
        self.contents: UInt64[np.ndarray, " image"] = np.zeros(len(source), np.uint64)
        self._files = source.stored_in() if isinstance(source, InFiles) else None
        self._states = None if self._files is None else file_states(self._files.files)
        self._stamp = source.stamp() if self._states is None else stamp_of(self._states)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        # Ray gives its workers read-only arrays.
        self.contents = np.array(self.contents)

    @property
    def fingerprint(self) -> str:
        """The source's fingerprint."""
        return self.source.fingerprint

    def stamp(self) -> str:
        """The source's stamp as it was when the watch began."""
        return self._stamp

    @property
    def contents_of(self) -> Literal["bytes", "pixels"]:
        """What the hashes are over."""
        return "bytes" if isinstance(self.source, EncodedSource) else "pixels"

    @property
    def states(self) -> str:
        """As `stamp`, with the times that only the system sets: it differs after any change, and after a copy."""
        return self._stamp if self._states is None else digest_states(self._states)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Image.Image:
        """Image ``index``.

        Raises:
            UnreadableImageError: it cannot be read, or could not be when it was first asked for.
            ChangedImageError: it has changed since it was read first.
        """
        image: Image.Image = self.read(index)
        return image

    def read(self, index: int) -> Any:
        """As ``__getitem__``, for a source of anything else, such as the targets of a probe."""
        index = range(len(self))[index]
        stored = self._read_stored(index)
        if self.contents[index] == UNREADABLE:
            raise UnreadableImageError(
                "could not be read when it was first needed, and stays left out so that all passes are over the same "
                "images"
            )
        return decode(stored) if isinstance(self.source, EncodedSource) else stored

    def keep(self, path: Path) -> None:
        """Have the hashes outlive this process in a file, and adopt those that the file holds already.

        Args:
            path: the file, eight bytes an image.

        Raises:
            ChangedImageError: an image is not what it was by the file.
            InfoscopeError: the file cannot be written.
        """
        if not len(self):
            return
        in_file = _map_contents(path, len(self))
        self.expect(np.arange(len(self)), in_file)
        in_file[:] = self.contents
        self.contents = in_file

    def expect(self, index: Int64[np.ndarray, " image"], contents: UInt64[np.ndarray, " image"]) -> None:
        """Adopt the hashes that another process took of some images.

        Raises:
            ChangedImageError: an image is not the same here.
        """
        here = self.contents[index]
        both_hashed = (here > UNREADABLE) & (contents > UNREADABLE)
        differing = np.flatnonzero(both_hashed & (here != contents))
        if len(differing):
            raise self._changed(int(index[differing[0]]))
        # Where only one of the two could read an image, what the other process made of it is what counts.
        self.contents[index] = np.where(contents == UNREAD, here, contents)

    def check(self) -> None:
        """Make sure that all images that were read are still what they were.

        Raises:
            ChangedImageError: one is not.
        """
        read = np.flatnonzero(self.contents)
        if self._files is None or self._states is None:
            if self.source.stamp() != self._stamp:
                self.verify(read)
            return
        differing = np.flatnonzero((file_states(self._files.files) != self._states).any(1))
        if len(differing):
            self.verify(np.intersect1d(read, self._files.images_in(differing)))

    def verify(self, index: Int64[np.ndarray, " image"]) -> None:
        """Read the bytes of some images again, whatever their files' times; where there are bytes, nothing is decoded.

        Raises:
            ChangedImageError: an image is not what it was.
        """

        def compare(position: int) -> None:
            with suppress(UnreadableImageError):  # as it was before
                self._read_stored(position)

        if isinstance(self.source, Remembering):
            self.source.forget()
        with progress("Comparing", len(index), "images", enabled=len(index) > QUIET_IMAGES) as step:
            for position, _ in ahead(compare, index.tolist(), 4 * decode_threads()):
                step(1, self.ids[position])

    def whole(self) -> str:
        """SHA-256 over the hashes of all images, for which those that were not read yet are read."""
        self.verify(np.flatnonzero(self.contents == UNREAD))
        return contents_sha256(self.contents)

    def _read_stored(self, index: int) -> Any:
        """An image's bytes, or the image of a source without bytes, once its hash has been compared or noted."""
        before = int(self.contents[index])
        try:
            if isinstance(self.source, EncodedSource):
                stored: Any = self.source.encoded(index)
                content = digest_bytes(stored)
            else:
                stored = self.source[index]
                content = digest_pixels(stored)
        except UnreadableImageError as error:
            if before not in (UNREAD, UNREADABLE):
                raise self._changed(index, str(error)) from error
            self.contents[index] = UNREADABLE
            raise
        if before == UNREAD:
            self.contents[index] = content
        elif before not in (UNREADABLE, content):
            raise self._changed(index)
        return stored

    def _changed(self, index: int, reason: str = "") -> ChangedImageError:
        what = f"was read before and cannot be read now ({reason})" if reason else "has changed since it was first read"
        return ChangedImageError(
            f"{self.ids[index]} of {self.name} {what}; put back what was there and give the same command again, which "
            "keeps what is finished, or begin anew in another --out"
        )


def watch(images: ImageSource) -> Watched:
    """The images, watched; images that are watched already are returned as they are."""
    return images if isinstance(images, Watched) else Watched(images)


def check_all(images: Iterable[object]) -> None:
    """`Watched.check` of each source that is watched.

    Raises:
        ChangedImageError: an image is not what it was.
    """
    for source in images:
        if isinstance(source, Watched):
            source.check()


def digest_bytes(content: bytes | memoryview) -> int:
    """64 bits of BLAKE2b, never `UNREAD` or `UNREADABLE`.

    Example:
        >>> digest_bytes(b"a") == digest_bytes(b"a"), digest_bytes(b"a") == digest_bytes(b"b")
        (True, False)
    """
    return max(int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little"), UNREADABLE + 1)


def digest_pixels(image: Image.Image | np.ndarray) -> int:
    """The same of pixels and their layout."""
    pixels = np.ascontiguousarray(image)
    return digest_bytes(repr((pixels.shape, pixels.dtype.str)).encode() + pixels.tobytes())


def contents_sha256(contents: UInt64[np.ndarray, " image"]) -> str:
    """SHA-256 over the hashes of images in order, 64 hex digits."""
    return hashlib.sha256(np.ascontiguousarray(contents, "<u8").tobytes()).hexdigest()


def _map_contents(path: Path, count: int) -> UInt64[np.ndarray, " image"]:
    """Hashes mapped to a file, so that each is there as soon as it is known and a killed process loses none."""
    size = 8 * count
    try:
        if not path.is_file() or path.stat().st_size != size:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                # Allocated, since a full disk would end the process at the first write to the mapping.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.truncate(size)
        return np.memmap(path, "<u8", "r+", shape=(count,))
    except OSError as error:
        raise InfoscopeError(f"cannot write {path}: {error.strerror or error}; {remedy_of(error)}") from error
