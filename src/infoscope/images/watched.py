"""Images that are noticed when they change: whatever is read again must be what was read first."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt64
from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.decode import UnreadableImageError
from infoscope.images.ids import StoredIn
from infoscope.images.prefetch import ahead, decode_threads
from infoscope.images.source import ImageSource
from infoscope.runtime.atomic import remedy_of
from infoscope.runtime.file_states import digest_states, file_states, stamp_of
from infoscope.runtime.progress import progress

Read = TypeVar("Read")

# Contents of images that were not read, and of those of which not a byte could be.
UNREAD, UNREADABLE = 0, 1
# Our choice: so many small files are read again within seconds, and need no bar.
QUIET_IMAGES = 2000


class ChangedImageError(InfoscopeError):
    """An image is another than when it was read first, so what was made of the two does not belong together."""


@runtime_checkable
class Encoded(Protocol):
    """A source whose images are bytes before they are pixels."""

    def encoded(self, index: int) -> bytes:
        """Image ``index`` as it is stored.

        Raises:
            UnreadableImageError: it cannot be read.
        """
        ...

    def decoded(self, index: int, encoded: bytes) -> Image.Image:
        """The picture in the bytes of image ``index``.

        Raises:
            UnreadableImageError: they are no picture.
        """
        ...


@runtime_checkable
class InFiles(Protocol):
    """A source whose images lie in files."""

    def stored_in(self) -> StoredIn:
        """The files, and which images lie in which."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A source that keeps some of what it read, to read it once for several images."""

    def forget(self) -> None:
        """Read anew whatever is asked for next."""


class Watched:
    """A source that refuses an image which is another than when it was read first.

    Of every image that is read a hash of its bytes is kept (of its pixels, where the source has no bytes), eight bytes
    each, and compared whenever it is read again: by a second pass, another block of a sweep, or a later start of the
    same command. `check` compares the files' sizes and times with those at the beginning, and reads again only what
    differs there, so that files which were only touched or copied are no difference.

    Args:
        source: the images.

    Attributes:
        contents: the hash of each image; `UNREAD` where there is none yet.

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
        self.contents: UInt64[np.ndarray, " image"] = np.zeros(len(source), np.uint64)
        self._files = source.stored_in() if isinstance(source, InFiles) else None
        self._states = None if self._files is None else file_states(self._files.files)
        self._stamp = source.stamp() if self._states is None else stamp_of(self._states)
        self._bytes: Encoded | None = source if isinstance(source, Encoded) else None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        # Ray gives its workers arrays that cannot be written to.
        self.contents = np.array(self.contents)

    @property
    def name(self) -> str:
        """The source as the user named it."""
        return self.source.name

    @property
    def ids(self) -> Sequence[str]:
        """One id an image, in order."""
        return self.source.ids

    @property
    def fingerprint(self) -> str:
        """The source's own."""
        return self.source.fingerprint

    @property
    def notes(self) -> Sequence[str]:
        """The source's own, where it has any; see `infoscope.images.source.notes_of`."""
        notes: Sequence[str] = getattr(self.source, "notes", ())
        return notes

    def stamp(self) -> str:
        """The source's own, as it was when the watch began."""
        return self._stamp

    @property
    def states(self) -> str:
        """As `stamp`, with the times that only the system sets: another one after any change, and after a copy."""
        return self._stamp if self._states is None else digest_states(self._states)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Image.Image:
        """Image ``index``.

        Raises:
            UnreadableImageError: it cannot be read, nor could it before.
            ChangedImageError: it is another than before.
        """
        image: Image.Image = self.read(index)
        return image

    def read(self, index: int) -> Any:
        """The same, whatever it is that the source gives.

        Raises:
            ChangedImageError: it is another than before.
        """
        index = range(len(self))[index]
        if self._bytes is None:
            return self._noted(index, self.source.__getitem__, digest_pixels)
        return self._bytes.decoded(index, self._noted(index, self._bytes.encoded, digest_bytes))

    def keep(self, path: Path) -> None:
        """Have the hashes outlive this process in a file; what one that is there knows is taken over.

        Args:
            path: the file, eight bytes an image.

        Raises:
            ChangedImageError: an image is another than the file knows it.
            InfoscopeError: it cannot be written.
        """
        if not len(self):
            return
        kept = _kept_contents(path, len(self))
        self.expect(np.arange(len(self)), kept)
        kept[:] = self.contents
        self.contents = kept

    def expect(self, index: Int64[np.ndarray, " image"], contents: UInt64[np.ndarray, " image"]) -> None:
        """Take over what some images were like when another process read them.

        Raises:
            ChangedImageError: one is another here.
        """
        known = self.contents[index]
        differ = np.flatnonzero((known != contents) & (known != UNREAD) & (contents != UNREAD))
        if len(differ):
            raise self._changed(int(index[differ[0]]))
        self.contents[index] = np.where(known == UNREAD, contents, known)

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
        """Read the bytes of some images again, whatever their files' times.

        Raises:
            ChangedImageError: an image is not what it was.
        """
        if isinstance(self.source, Remembering):
            self.source.forget()
        with progress("Comparing", len(index), "images", enabled=len(index) > QUIET_IMAGES) as step:
            for place, _ in ahead(self._look, index.tolist(), 4 * decode_threads()):
                step(1, self.ids[place])

    def whole(self) -> str:
        """SHA-256 over what all images are like, of which those that were not read yet are read."""
        self.verify(np.flatnonzero(self.contents == UNREAD))
        return contents_sha256(self.contents)

    def _look(self, index: int) -> None:
        """Read an image without decoding it, where that can be."""
        try:
            if self._bytes is None:
                self._noted(index, self.source.__getitem__, digest_pixels)
            else:
                self._noted(index, self._bytes.encoded, digest_bytes)
        except UnreadableImageError:  # nor could it be before
            pass

    def _noted(self, index: int, read: Callable[[int], Read], digest: Callable[[Read], int]) -> Read:
        """What ``read`` gives, once it is sure that it is what it gave before."""
        try:
            found = read(index)
        except UnreadableImageError as error:
            self._note(index, UNREADABLE, str(error))
            raise
        self._note(index, digest(found))
        return found

    def _note(self, index: int, content: int, reason: str = "") -> None:
        before = int(self.contents[index])
        if before == UNREAD:
            self.contents[index] = content
        elif before != content:
            raise self._changed(index, reason)

    def _changed(self, index: int, reason: str = "") -> ChangedImageError:
        what = f"was read before and cannot be read now ({reason})" if reason else "has changed since it was first read"
        return ChangedImageError(
            f"{self.ids[index]} of {self.name} {what}; put back what was there and give the same command again, which "
            "keeps what is finished, or begin anew in another --out"
        )


def watch(images: ImageSource) -> Watched:
    """The images, watched; those that are watched already stay as they are."""
    return images if isinstance(images, Watched) else Watched(images)


def digest_bytes(content: bytes | memoryview) -> int:
    """64 bits of BLAKE2b, which is neither `UNREAD` nor `UNREADABLE`.

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


def _kept_contents(path: Path, count: int) -> UInt64[np.ndarray, " image"]:
    """Hashes in a file: each lies there once it is known, so that a killed process loses none."""
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


def check_all(images: Iterable[object]) -> None:
    """`Watched.check` of each that is watched.

    Raises:
        ChangedImageError: an image is not what it was.
    """
    for each in images:
        if isinstance(each, Watched):
            each.check()
