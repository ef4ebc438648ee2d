"""Images as a sequence with an id each, whatever they come from."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.decode import UnreadableImageError, readable_rgb, upright_rgb
from infoscope.images.folder import FolderSource
from infoscope.images.huggingface import HuggingFaceSource, cached_folders, is_saved_dataset, load_hub, load_saved
from infoscope.images.parquet import open_parquet, open_parquet_folder
from infoscope.images.webdataset import WebDatasetSource, names_compressed, open_shards
from infoscope.runtime.hub import is_hub_id

if TYPE_CHECKING:
    import datasets


class ArraySource:
    """PIL images, or uint8 arrays ``[height, width]`` or ``[height, width, 3]``; an image's id is its index.

    Raises:
        InfoscopeError: an array is not uint8, or is not an image's shape.
    """

    def __init__(self, images: Sequence[Image.Image | np.ndarray] | np.ndarray, name: str = "arrays"):
        if isinstance(images, np.ndarray) and (images.ndim not in (3, 4) or images.dtype != np.uint8):
            raise InfoscopeError(
                f"images as one array must be uint8 [image, height, width, 3], not {images.dtype} {images.shape}"
            )
        self.name = name
        self._images = images
        self.ids = [str(index) for index in range(len(images))]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all pixels, since the ids say nothing of the content."""
        digest = hashlib.sha256()
        for image in self._images:
            try:
                pixels = np.ascontiguousarray(image)
            except OSError:  # a picture whose file is cut short; it will be skipped
                pixels = np.zeros(0, np.uint8)
            digest.update(repr((pixels.shape, pixels.dtype.str)).encode())
            digest.update(pixels.tobytes())
        return digest.hexdigest()

    def stamp(self) -> str:
        """The fingerprint."""
        return self.fingerprint

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Image.Image:
        image = self._images[index]
        if isinstance(image, Image.Image):
            return readable_rgb(image)
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
            raise UnreadableImageError(f"an array of {image.dtype} {image.shape} is not a uint8 image")
        return upright_rgb(Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image))


_LOGGER = logging.getLogger(__name__)
# By source, so that an image that two passes read counts once.
_DOUBTS: WeakKeyDictionary[ImageSource, dict[int, str]] = WeakKeyDictionary()


@runtime_checkable
class ImageSource(Protocol):
    """Images in a stable order."""

    @property
    def name(self) -> str:
        """The source as the user named it."""

    @property
    def ids(self) -> Sequence[str]:
        """One id an image, in order."""

    @property
    def fingerprint(self) -> str:
        """A hash of the content where ids do not name it (arrays, data sets), else empty."""

    def stamp(self) -> str:
        """Another one whenever the content may be another: what resuming a measurement goes by."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image:
        """Image ``index`` as upright RGB.

        Raises:
            UnreadableImageError: this image cannot be read.
        """
        ...


Images: TypeAlias = "str | Path | np.ndarray | Sequence[Image.Image | np.ndarray] | ImageSource | datasets.Dataset"


def open_images(source: Images) -> ImageSource:
    """Open an image source.

    Args:
        source: a folder (searched recursively, ordered by the bytes of the relative paths); webdataset shards: a
            ``.tar``, a pattern such as ``shards/*.tar`` or ``train-{000..099}.tar``, or a folder of them; a Hugging
            Face data set: a ``datasets.Dataset``, a directory made by its ``save_to_disk``, a folder of parquet files
            ``folder[:split]`` or a pattern of them, or a hub id ``owner/name[:split]`` (split ``train`` when not
            named); a uint8 array ``[image, height, width, 3]``, or a sequence of such images or of PIL images; or a
            source already open.

    Raises:
        InfoscopeError: there is no such folder, file or data set, it cannot be read, or it holds no images.

    Example:
        >>> images = open_images(np.zeros((2, 32, 48, 3), np.uint8))
        >>> len(images), list(images.ids), images[1].size
        (2, ['0', '1'], (48, 32))
    """
    if isinstance(source, str | Path):
        opened = _open_named(str(source))
    elif isinstance(source, ImageSource):
        opened = source
    elif isinstance(source, np.ndarray | list | tuple):
        opened = ArraySource(source)
    else:
        opened = HuggingFaceSource(source)
    if len(opened) == 0:
        there = "".join(f" ({note})" for note in getattr(opened, "notes", ())[:1])
        raise InfoscopeError(
            f"no images in {opened.name}{there}; name a folder with .jpg or .png files in it or below, or shards"
        )
    _LOGGER.debug("images %s: %d, read by %s", opened.name, len(opened), type(opened).__name__)
    return opened


def _open_named(name: str) -> ImageSource:
    path = Path(name).expanduser()
    if path.is_dir():
        return HuggingFaceSource(load_saved(path), name, [path]) if is_saved_dataset(path) else _open_folder(path, name)
    if name.lower().endswith(".tar") or names_compressed(name):
        return open_shards(name)
    if name.lower().endswith(".parquet"):
        return open_parquet(name)
    if path.exists():
        raise InfoscopeError(f"{name} is a file; give the folder that holds the images")
    before, _, split = name.rpartition(":")
    folder = Path(before).expanduser()
    if before and folder.is_dir():
        opened = open_parquet_folder(folder, split, name, before)
        if opened is None:
            raise InfoscopeError(f"{before} holds no parquet files, so it has no split {split}; leave out :{split}")
        return opened
    if is_hub_id(name, with_split=True):
        return HuggingFaceSource(load_hub(name), name, cached_folders())
    raise InfoscopeError(f"no such folder of images: {name}; check the path, or give a data set's id, owner/name")


def _open_folder(path: Path, name: str) -> ImageSource:
    """A folder's images; where it has none, the shards it holds."""
    images = FolderSource(path, name)
    if len(images):
        return images
    files = sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())
    shards = [file for file in files if file.suffix.lower() == ".tar"]
    if shards:
        return WebDatasetSource(shards, name)
    compressed = [file for file in files if names_compressed(file.name)]
    if compressed:
        return open_shards(str(compressed[0]))  # refuses it
    return open_parquet_folder(path, "", name, name) or images


def note_doubt(source: ImageSource, index: int, doubt: str) -> None:
    """Keep what is to be told of an image's values; the first of a source is told at once.

    Args:
        source: the source.
        index: of the image.
        doubt: what the decoded picture has under `wide.DOUBT`.
    """
    doubts = _doubts(source)
    if not doubts:
        _LOGGER.warning(
            "%s of %s %s; such images are counted. Scale them to the whole range, or have their files state it "
            "(TIFF MaxSampleValue, PNG sBIT)",
            source.ids[index], source.name, doubt,
        )  # fmt: skip
    doubts[index] = doubt


def _doubts(source: ImageSource) -> dict[int, str]:
    try:
        return _DOUBTS.setdefault(source, {})
    except TypeError:  # a source of the user's that cannot be a key: told each time, and not counted
        return {}


def notes_of(source: ImageSource) -> list[str]:
    """What is to be known of a source besides its images, a line each: files that are not read, and doubtful values.

    Values are known of the images that this process has read.

    Example:
        >>> notes_of(open_images(np.zeros((2, 32, 48, 3), np.uint8)))
        []
    """
    notes = [*getattr(source, "notes", ())]
    doubts = _doubts(source)
    if doubts:
        first = min(doubts)
        notes.append(f"doubtful values: {len(doubts)} of {len(source)} images; {source.ids[first]} {doubts[first]}")
    return notes


def ids_sha256(source: ImageSource) -> str:
    """SHA-256 over the ids in order, a line each, and the fingerprint where there is one; 64 hex digits."""
    digest = hashlib.sha256()
    for image_id in source.ids:
        digest.update(image_id.encode("utf-8"))
        digest.update(b"\n")
    digest.update(source.fingerprint.encode("utf-8"))
    return digest.hexdigest()
