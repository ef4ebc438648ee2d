"""Which images of a test were used before: for the run that was measured, or to train its SAE.

Images are the same where their contents are, whatever they are called and wherever they are stored. A crop, a resized
copy or one that was encoded anew has other contents, so it cannot be told from another photograph.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import UInt64

from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.untrained import KINDS
from infoscope.errors import UnreadableImageError, few
from infoscope.images.contents import MOST_COMPARED, unpacked_contents
from infoscope.images.prefetch import ahead, decode_threads
from infoscope.images.watched import UNREAD, UNREADABLE, Watched, digest_pixels
from infoscope.measurement.identity import recorded_contents
from infoscope.runtime.manifest import ImagesRecord
from infoscope.runtime.run import Run
from infoscope.runtime.typed import Count, from_json

_LOGGER = logging.getLogger(__name__)
# Our choice: enough to look up what they are; their number says how many there are.
NAMED = 3
_TOO_MANY = f"and of more than {MOST_COMPARED:,} the contents are not recorded one by one"
NOT_COMPARED = (
    "whether test images were measured or trained on before is not known: this result is from before they were compared"
)


@dataclass(frozen=True)
class SharedImages:
    """How many test images one earlier use had too.

    Attributes:
        shared: how many; None where that cannot be told.
        first: the ids of the first few, as the test has them.
        unknown: why it cannot be told; empty where it can.
    """

    shared: Count | None
    first: list[str] = field(default_factory=list)
    unknown: str = ""


@dataclass(frozen=True)
class SharedRecord:
    """The test images that were used before, as records hold it.

    Attributes:
        images: how many test images could be read, or how many there are where nothing could be compared.
        own: whether they are the run's own images, all of them and no others.
        measured: those that the run was measured on.
        trained: those that the SAE was trained on.
    """

    images: Count
    own: bool
    measured: SharedImages
    trained: SharedImages

    @property
    def warnings(self) -> list[str]:
        """What speaks against the test, a line each.

        Example:
            >>> none, some = SharedImages(0), SharedImages(2, ["cat/1.jpg", "cat/7.jpg"])
            >>> SharedRecord(50, False, none, some).warnings
            ['2 of the 50 test images are among those that the SAE was trained on: cat/1.jpg, cat/7.jpg']
            >>> SharedRecord(50, False, none, none).warnings
            []
        """
        return [line for line, speaks_against in self._lines() if speaks_against]

    @property
    def lines(self) -> list[str]:
        """What is known of both uses, a line each.

        Example:
            >>> SharedRecord(50, False, SharedImages(0), SharedImages(None, unknown="no record")).lines
            ['none of the 50 test images is among those that the run was measured on', 'whether test images are among
            those that the SAE was trained on is not known: no record']
        """
        return [line for line, _ in self._lines()]

    def warn(self) -> None:
        """Log what speaks against the test."""
        for line in self.warnings:
            _LOGGER.warning("%s", line)

    def _lines(self) -> list[tuple[str, bool]]:
        measured, speaks_against = self._line(self.measured, "the run was measured on")
        if self.own:
            known = "" if self.measured.shared is None else f": {measured}"
            measured, speaks_against = f"tested on the run's own images{known}", True
        return [(measured, speaks_against), self._line(self.trained, "the SAE was trained on")]

    def _line(self, use: SharedImages, what: str) -> tuple[str, bool]:
        among = f"among those that {what}"
        if use.shared is None:
            return f"whether test images are {among} is not known: {use.unknown}", False
        if not use.shared:
            return f"none of the {self.images:,} test images is {among}", False
        others = use.shared - len(use.first)
        ids = few(use.first, NAMED) + (f" and {others:,} more" if others else "")
        verb = "is" if use.shared == 1 else "are"
        return f"{use.shared:,} of the {self.images:,} test images {verb} {among}: {ids}", True


def shared_lines(record: SharedRecord | None) -> list[str]:
    """The lines of a record; one line for a result that is older than such records."""
    return [NOT_COMPARED] if record is None else record.lines


def compare_images(
    run: Run | None, sae: SparseAutoencoder, images: Watched, *, run_images: bool = False
) -> SharedRecord:
    """Which test images a run was measured on, and which its SAE was trained on; what is shared is warned of.

    Test images that were not read yet are read, where there is something to compare them with.

    Args:
        run: the run; None where there is none.
        sae: its SAE.
        images: the test images.
        run_images: whether they are the run's own by choice, so that they need no comparing to be called so.

    Raises:
        InfoscopeError: the run's manifest is damaged, or an image has changed since it was read.
    """
    hashes = _TestHashes(images)
    used = _of_run(run)
    if run is not None and used.contents is None and _same_pool(run.manifest.images, images):
        own, measured = True, hashes.all_shared()
    else:
        own, measured = hashes.same(used), hashes.share(used)
    trained = hashes.share(_of_training(sae))
    # Counted last: only now is it known which images can be read.
    record = SharedRecord(hashes.readable, own or run_images, measured, trained)
    record.warn()
    return record


@dataclass(frozen=True)
class _Used:
    """The images of an earlier use.

    Attributes:
        contents: their hashes; None where they are not known.
        contents_of: what the hashes are over.
        unknown: why they are not known.
    """

    contents: UInt64[np.ndarray, " image"] | None = None
    contents_of: Literal["bytes", "pixels"] = "bytes"
    unknown: str = ""


class _TestHashes:
    """The hashes of the test images, taken when they are first needed.

    Args:
        images: the test images.
    """

    def __init__(self, images: Watched):
        self._images = images
        self._pixels: UInt64[np.ndarray, " image"] | None = None

    @property
    def readable(self) -> int:
        """How many of those that were tried could be read."""
        return int((self._images.contents != UNREADABLE).sum())

    def share(self, used: _Used) -> SharedImages:
        """The test images that an earlier use had too."""
        if used.contents is None:
            return SharedImages(None, unknown=used.unknown)
        hashes = self._over(used.contents_of)
        if hashes is None:
            return SharedImages(
                None, unknown="those were compared as files, and the test images are pixels that lie in no files"
            )
        # Below are marks for images without a hash, which say nothing of their contents.
        found = np.flatnonzero((hashes > UNREADABLE) & np.isin(hashes, used.contents))
        return SharedImages(len(found), [self._images.ids[at] for at in found[:NAMED].tolist()])

    def same(self, used: _Used) -> bool:
        """Whether the test images are those of an earlier use, in any order."""
        if used.contents is None:
            return False
        hashes = self._over(used.contents_of)
        return hashes is not None and np.array_equal(np.sort(hashes), np.sort(used.contents))

    def all_shared(self) -> SharedImages:
        """Every readable test image, as one that was used before."""
        found = np.flatnonzero(self._images.contents > UNREADABLE)
        return SharedImages(len(found), [self._images.ids[at] for at in found[:NAMED].tolist()])

    def _over(self, contents_of: Literal["bytes", "pixels"]) -> UInt64[np.ndarray, " image"] | None:
        """The hashes over bytes or pixels; None where there are no bytes."""
        if contents_of == self._images.contents_of:
            self._images.verify(np.flatnonzero(self._images.contents == UNREAD))
            return self._images.contents
        if contents_of == "bytes":
            return None
        if self._pixels is None:
            self._pixels = _hashes_of_pixels(self._images)
        return self._pixels


def _hashes_of_pixels(images: Watched) -> UInt64[np.ndarray, " image"]:
    """Hashes over the pixels of images that are stored as bytes, for which each is decoded."""
    hashes = np.full(len(images), UNREADABLE, np.uint64)

    def take(index: int) -> None:
        with suppress(UnreadableImageError):
            hashes[index] = digest_pixels(images[index])

    for _ in ahead(take, range(len(images)), 4 * decode_threads()):
        pass
    return hashes


def _of_run(run: Run | None) -> _Used:
    if run is None:
        return _Used(unknown="no run is given")
    record = run.manifest.images
    contents = recorded_contents(run)
    if contents is not None:
        # A run from before this was recorded has bytes, unless its images were arrays.
        of = record.contents_of or ("pixels" if record.source == "arrays" else "bytes")
        return _Used(contents, of)
    if record.count > MOST_COMPARED:
        return _Used(unknown=f"it was measured on {record.count:,} images, {_TOO_MANY}")
    return _Used(unknown="the run is from before the contents of its images were recorded")


def _same_pool(record: ImagesRecord, images: Watched) -> bool:
    """Whether images are all those of a run that has one hash over the contents of all of them."""
    return (
        record.contents_sha256 is not None and len(images) == record.count and images.whole() == record.contents_sha256
    )


@dataclass(frozen=True)
class _TrainingImages:
    """What an SAE that `infoscope train` made says of its images."""

    used: Count | None = None
    contents: str | None = None
    contents_of: Literal["bytes", "pixels"] = "bytes"


def _of_training(sae: SparseAutoencoder) -> _Used:
    try:
        record = from_json(_TrainingImages, (sae.site or {}).get("images"), other_entries=True)
        if record.contents is not None and record.used is not None:
            return _Used(unpacked_contents(record.contents, record.used), record.contents_of)
    except ValueError:
        record = _TrainingImages()
    if sae.format in KINDS:
        return _Used(unknown=f"a dictionary of kind {sae.format} does not record which images it was made from")
    if record.used is not None and record.used > MOST_COMPARED:
        return _Used(unknown=f"it was trained on {record.used:,} images, {_TOO_MANY}")
    return _Used(unknown="the SAE does not record the contents of the images that it was trained on")
