"""The labelled set of NYU Depth v2, as its authors publish it: one MATLAB 7.3 file, which is HDF5."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float32, Int64, Shaped
from PIL import Image

from infoscope.analyses.probes.matlab import load_mat
from infoscope.errors import InfoscopeError, UnreadableImageError, check_choice, first_line
from infoscope.images.source import spread_evenly
from infoscope.images.stored import Recent, StoredIn
from infoscope.runtime.file_states import stamp_files

if TYPE_CHECKING:
    import h5py

NyuSplit = Literal["train", "test"]
NyuField = Literal["depths", "rawDepths"]

LABELLED = "nyu_depth_v2_labeled.mat"
SPLITS = "splits.mat"
SPLIT_FIELDS = {"train": "trainNdxs", "test": "testNdxs"}
# The file is compressed in chunks that may span images. A chunk is read whole, once, and two of them are kept: 64
# photographs of 480 x 640 are 59 MB, their depths 79 MB.
MOST_IN_BLOCK = 64
BLOCKS_KEPT = 2
# So many depth maps are hashed to tell one file from another.
HASHED = 8


class _Field:
    """One array of the file, image by image; opened for each block, so that threads and processes need no care."""

    def __init__(self, file: Path, name: str, dimensions: int):
        self._file, self._name = file, name
        with _opened(file) as opened:
            data = _data_set(opened, name, file)
            self.shape: tuple[int, ...] = tuple(data.shape)
            self._block = min(data.chunks[0] if data.chunks else 1, MOST_IN_BLOCK)
        if len(self.shape) != dimensions or 0 in self.shape:
            raise InfoscopeError(
                f"{name} in {file} has the shape {self.shape}, and not one of {dimensions} dimensions"
                "; fetch the file again"
            )
        self._recent: Recent[Shaped[np.ndarray, "*shape"]] = Recent(BLOCKS_KEPT)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> Shaped[np.ndarray, "*shape"]:
        block: Shaped[np.ndarray, "*shape"] = self._recent.get(row // self._block, self._read)[row % self._block]
        return block

    def forget(self) -> None:
        """Drop what was read, so that whatever is asked for next is read again."""
        self._recent.clear()

    def _read(self, block: int) -> Shaped[np.ndarray, "*shape"]:
        with _opened(self._file) as opened:
            data = _data_set(opened, self._name, self._file)
            read: Shaped[np.ndarray, "*shape"] = data[block * self._block : (block + 1) * self._block]
            return read


class NyuImages:
    """The photographs of the labelled file, or of some of its rows; an image source. An image's id is its row.

    Args:
        file: the ``.mat``.
        rows: which, ascending from 0.

    Raises:
        InfoscopeError: h5py is missing, or the file is not NYU's.
    """

    def __init__(self, file: Path, rows: Sequence[int] | Int64[np.ndarray, " image"]):
        self.name = str(file)
        self._file, self._rows = file.absolute(), [int(row) for row in rows]
        self._pixels = _Field(self._file, "images", 4)
        if self._pixels.shape[1] != 3:
            raise InfoscopeError(
                f"images in {file} have the shape {self._pixels.shape}, and not [image, 3, column, row]"
                "; fetch the file again"
            )
        self.ids = [str(row) for row in self._rows]
        self.fingerprint = _fingerprint(self._file, self._pixels)

    def stamp(self) -> str:
        """SHA-256 over the file's size and time of change."""
        return stamp_files([self._file])

    def forget(self) -> None:
        """Drop what was read, so that whatever is asked for next is read again."""
        self._pixels.forget()

    def stored_in(self) -> StoredIn:
        """The one file."""
        return StoredIn([self._file], [0], len(self))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        row = self._rows[index]
        try:
            pixels = self._pixels[row]
        # What HDF5 says of a damaged block is an OSError with lines of its own.
        except OSError as error:
            raise UnreadableImageError(f"image {row}: {first_line(error)}") from error
        if pixels.dtype != np.uint8:
            raise UnreadableImageError(f"image {row}: its pixels are {pixels.dtype}, not 8-bit")
        # MATLAB's arrays are [row, column, channel, image], and HDF5 has them the other way round.
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(2, 1, 0)))


class NyuDepths:
    """The depth maps of the labelled file, or of some of its rows, in metres.

    Args:
        file: the ``.mat``.
        rows: which, ascending from 0.
        field: ``depths`` or ``rawDepths``.

    Raises:
        InfoscopeError: h5py is missing, or the file is not NYU's.
    """

    def __init__(self, file: Path, rows: Sequence[int] | Int64[np.ndarray, " image"], field: NyuField = "depths"):
        check_choice("field", field, NyuField)
        self._file, self._rows, self._name = file.absolute(), [int(row) for row in rows], field
        self._maps = _Field(self._file, field, 3)
        images = _Field(self._file, "images", 4).shape
        if self._maps.shape != (images[0], *images[2:]):
            raise InfoscopeError(
                f"{field} in {file} has the shape {self._maps.shape}, and images {images}: they do not belong together"
                "; fetch the file again"
            )

    @property
    def form(self) -> str:
        """The field."""
        return self._name

    def read(self, index: int) -> Float32[np.ndarray, "row column"]:
        """Map ``index``.

        Raises:
            InfoscopeError: the file is damaged.
        """
        try:
            stored = self._maps[self._rows[index]]
        except OSError as error:
            raise InfoscopeError(
                f"cannot read {self.where(index)}: {first_line(error)}; fetch the file again"
            ) from error
        return np.ascontiguousarray(stored.T, dtype=np.float32)

    def stored_in(self) -> StoredIn:
        """The one file."""
        return StoredIn([self._file], [0], len(self._rows))

    def forget(self) -> None:
        """Drop what was read, so that whatever is asked for next is read again."""
        self._maps.forget()

    def where(self, index: int) -> str:
        """The file, the field and the row."""
        return f"{self._file}, {self._name}, image {self._rows[index]}"


def find_labelled(path: Path) -> Path | None:
    """The labelled file, given itself or the folder that holds it; None where it is not."""
    if path.is_file():
        return path
    file = path / LABELLED
    return file if file.is_file() else None


def split_rows(file: Path, split: NyuSplit | None, splits: Path | None = None) -> Int64[np.ndarray, " image"]:
    """The rows of a split, from 0 and ascending.

    Args:
        file: the labelled file.
        split: which; None for all rows.
        splits: the official ``splits.mat``, whose rows are numbered from 1; beside ``file`` when not given.

    Raises:
        InfoscopeError: it is missing, is something else, or does not fit the labelled file.
    """
    count = len(_Field(file, "images", 4))
    if split is None:
        return np.arange(count)
    check_choice("split", split, NyuSplit)
    official = splits or file.with_name(SPLITS)
    if not official.is_file():
        raise InfoscopeError(
            f"no {official}: the split {split} of {file.name} is in the {SPLITS} that its authors publish beside it; "
            "fetch it, or give its path"
        )
    try:
        read = load_mat(official)
        rows = {name: _whole(read[field]) - 1 for name, field in SPLIT_FIELDS.items()}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InfoscopeError(
            f"{official} is not NYU's list of splits (trainNdxs, testNdxs): {error}; fetch it again"
        ) from error
    for name, those in rows.items():
        if not len(those):
            raise InfoscopeError(f"{official}: the split {name} has no images; fetch it again")
        if those[0] < 0 or those[-1] >= count:
            raise InfoscopeError(
                f"{official} names image {those[-1] + 1 if those[0] >= 0 else those[0] + 1} of {count} in {file}: take "
                "both from one release"
            )
    both = np.intersect1d(rows["train"], rows["test"])
    if len(both):
        raise InfoscopeError(f"{official} has image {both[0] + 1} in both splits: fetch it again")
    return rows[split]


def _whole(values: Any) -> Int64[np.ndarray, " _"]:
    """The numbers in an array, each once.

    Raises:
        ValueError: one is not whole.
    """
    numbers = np.atleast_1d(np.asarray(values)).ravel()
    # Above 2^53 a float is no count.
    if len(numbers) and (
        numbers.dtype.kind not in "uif" or not ((np.floor(numbers) == numbers) & (np.abs(numbers) < 2**53)).all()
    ):
        raise ValueError(f"it holds {numbers.dtype}, and not whole numbers alone")
    return np.unique(numbers.astype(np.int64))


def _fingerprint(file: Path, pixels: _Field) -> str:
    """A hash of the size, the shape and a few photographs: the whole file is 3 GB."""
    digest = hashlib.sha256(repr((file.stat().st_size, pixels.shape)).encode())
    for row in sorted(spread_evenly(len(pixels), HASHED)):
        try:
            digest.update(np.ascontiguousarray(pixels[row]).tobytes())
        except OSError:  # a damaged block: its photographs will be skipped, and named
            digest.update(b"unreadable")
    return digest.hexdigest()


def _data_set(opened: h5py.File, name: str, file: Path) -> Any:
    """An array of numbers in the file; a group or a link that leads nowhere is none."""
    if name not in opened:
        raise InfoscopeError(f"{file} has no {name}, which NYU's labelled file has: fetch it again")
    try:
        data: Any = opened[name]
        numbers = data.dtype.kind in "uif"
    # Groups have no type; what HDF5 says of a broken link or type has lines of its own.
    except (KeyError, AttributeError, OSError, RuntimeError, TypeError, ValueError):
        numbers = False
    if not numbers:
        raise InfoscopeError(f"{name} in {file} is no array of numbers, as in NYU's labelled file: fetch it again")
    return data


def _opened(file: Path) -> h5py.File:
    try:
        import h5py
    except ImportError as error:
        raise InfoscopeError(f"to read {file.name}, install infoscope[nyu]") from error
    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise InfoscopeError(
            f"{file} is no MATLAB 7.3 file (HDF5), as NYU's labelled set is, or is cut short: fetch it again"
        ) from error
