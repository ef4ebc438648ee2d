"""What a source of images is, and how one is opened by whatever name it is given."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image

from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.decode import upright_rgb
from infoscope.images.folder import FolderSource
from infoscope.images.huggingface import HuggingFaceSource, cached_folders, is_saved_dataset, load_hub, load_saved
from infoscope.images.parquet import ParquetSource, split_files
from infoscope.images.webdataset import WebDatasetSource
from infoscope.runtime.hub import is_hub_id

if TYPE_CHECKING:
    import datasets

_LOGGER = logging.getLogger(__name__)
COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@runtime_checkable
class ImageSource(Protocol):
    """Images in a stable order.

    A source may offer more, which `infoscope.images.watched` makes use of: the bytes of an image before they are
    pixels (`EncodedSource`), the files that images lie in (`InFiles`), and forgetting what it has read (`Remembering`).
    """

    @property
    def name(self) -> str:
        """The source as the user named it."""

    @property
    def ids(self) -> Sequence[str]:
        """One id per image, in order."""

    @property
    def fingerprint(self) -> str:
        """A hash of the content where the ids do not name it (arrays, data sets), else empty."""

    def stamp(self) -> str:
        """A text that differs whenever the content may have changed; resuming a measurement goes by it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image:
        """Image ``index`` as upright RGB.

        Raises:
            UnreadableImageError: this image cannot be read.
        """
        ...


class ArraySource:
    """PIL images, or uint8 arrays ``[height, width]`` or ``[height, width, 3]``; an image's id is its index.

    Raises:
        InfoscopeError: an array is not uint8, or has not the shape of an image.
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
            except OSError:  # a picture whose file is cut short, which every pass will skip
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
            return upright_rgb(image)
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
            raise UnreadableImageError(f"an array of {image.dtype} {image.shape} is not a uint8 image")
        return upright_rgb(Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image))


Images: TypeAlias = "str | Path | np.ndarray | Sequence[Image.Image | np.ndarray] | ImageSource | datasets.Dataset"


def open_images(source: Images) -> ImageSource:
    """Open an image source.

    Args:
        source: a folder (searched recursively, ordered by the bytes of the relative paths); webdataset shards: a
            ``.tar``, a pattern such as ``shards/*.tar`` or ``train-{000..099}.tar``, or a folder of them; a Hugging
            Face data set: a ``datasets.Dataset``, a directory made by its ``save_to_disk``, a folder of parquet files
            ``folder[:split]`` or a pattern of them, or a hub id ``owner/name[:split]`` (split ``train`` when not
            named); a uint8 array ``[image, height, width, 3]``, or a sequence of such images or of PIL images; or a
            source that is already open.

    Raises:
        InfoscopeError: there is no such folder, file or data set, it cannot be read, or it holds no images.

    Example:
        >>> images = open_images(np.zeros((2, 32, 48, 3), np.uint8))
        >>> len(images), list(images.ids), images[1].size
        (2, ['0', '1'], (48, 32))
    """
    if isinstance(source, str | Path):
        images = _open_named(str(source))
    elif isinstance(source, ImageSource):
        images = source
    elif isinstance(source, np.ndarray | list | tuple):
        images = ArraySource(source)
    else:
        images = HuggingFaceSource(source)
    if len(images) == 0:
        reason = "".join(f" ({note})" for note in getattr(images, "notes", ())[:1])
        raise InfoscopeError(
            f"no images in {images.name}{reason}; name a folder with .jpg or .png files in it or below, or shards"
        )
    _LOGGER.debug("images %s: %d, read by %s", images.name, len(images), type(images).__name__)
    return images


def _open_named(name: str) -> ImageSource:
    path = Path(name).expanduser()
    if path.is_dir():
        return _open_directory(path, name)
    if _is_compressed(name):
        raise _compressed(name)
    if name.lower().endswith(".tar"):
        return WebDatasetSource(matching_files(name), name)
    if name.lower().endswith(".parquet"):
        return ParquetSource(matching_files(name), name)
    if path.exists():
        raise InfoscopeError(f"{name} is a file; give the folder that holds the images")
    before, _, split = name.rpartition(":")
    folder = Path(before).expanduser()
    if before and folder.is_dir():
        files = split_files(folder, split, before)
        if files is None:
            raise InfoscopeError(f"{before} holds no parquet files, so it has no split {split}; leave out :{split}")
        return ParquetSource(files, name, [folder])
    if is_hub_id(name, with_split=True):
        return HuggingFaceSource(load_hub(name), name, cached_folders())
    raise InfoscopeError(f"no such folder of images: {name}; check the path, or give a data set's id, owner/name")


def _open_directory(path: Path, name: str) -> ImageSource:
    """What a directory holds: a saved data set, image files or, where it has none, shards."""
    if is_saved_dataset(path):
        return HuggingFaceSource(load_saved(path), name, [path])
    images = FolderSource(path, name)
    if len(images):
        return images
    files = sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())
    if shards := [file for file in files if file.suffix.lower() == ".tar"]:
        return WebDatasetSource(shards, name)
    if compressed := [file for file in files if _is_compressed(file.name)]:
        raise _compressed(str(compressed[0]))
    parquet_files = split_files(path, "", name)
    return images if parquet_files is None else ParquetSource(parquet_files, name, [path])


def _is_compressed(name: str) -> bool:
    return name.lower().endswith(COMPRESSED_SUFFIXES)


def _compressed(name: str) -> InfoscopeError:
    return InfoscopeError(
        f"{name} is compressed: its images cannot be found one by one; unpack it to a .tar (gunzip, unxz, ...)"
    )


def matching_files(pattern: str) -> list[Path]:
    """The files that a pattern names, as absolute paths, each once, sorted by the bytes of their names.

    Braces are expanded first, and each name that they give must exist: a missing shard is an error, never a smaller
    set. Then ``*``, ``?``, ``[...]`` and ``**`` match as in a shell. A path that exists as it is written is taken
    literally, whatever brackets it has.

    Raises:
        InfoscopeError: nothing matches, the pattern is not a local path, or its braces cannot be read.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "photographs [2026]"
        >>> folder.mkdir()
        >>> for name in ("b.tar", "a.tar", "a.json"):
        ...     (folder / name).touch()
        >>> [file.name for file in matching_files(f"{folder}/*.tar")]
        ['a.tar', 'b.tar']
    """
    if "://" in pattern or pattern.startswith("pipe:"):
        raise InfoscopeError(f"{pattern} is no local path; download the shards and give the folder that holds them")
    path = Path(pattern).expanduser().absolute()
    folder, parts = Path(path.anchor), list(path.parts[1:])
    # Only what follows the folders that exist by these very names can be a pattern.
    while parts and (folder / parts[0]).exists():
        folder /= parts.pop(0)
    rest = "/".join(parts)
    names = _expand_braces(rest) if "{" in rest else [rest]
    matches: set[Path] = set()
    for name in names:
        path = folder / name
        files = [path] if path.exists() else [file for file in folder.glob(name) if not file.name.startswith(".")]
        if not files:
            source = f" (from {pattern})" if len(names) > 1 else ""
            raise InfoscopeError(
                f"no such file: {path if source else pattern}{source}; check the name, or the numbers in braces"
            )
        for file in files:
            if not (file.is_file() or file.is_dir()):
                raise InfoscopeError(f"{file} is a pipe or device, no file; write its content to a file and name that")
        matches.update(files)
    return sorted(matches, key=os.fsencode)


def _expand_braces(pattern: str) -> list[str]:
    try:
        from braceexpand import braceexpand
    except ImportError as error:
        raise InfoscopeError(
            f"to expand the braces in {pattern}, install infoscope[webdataset], or use * in their place"
        ) from error
    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        raise InfoscopeError(
            f"the braces in {pattern} are not closed; close them, as in train-{{000..099}}.tar"
        ) from error


def spread_evenly(count: int, most: int) -> frozenset[int]:
    """At most ``most`` of ``count`` positions, from the first to the last, evenly apart.

    Example:
        >>> sorted(spread_evenly(9, 3)), len(spread_evenly(2, 3))
        ([0, 4, 8], 2)
    """
    return frozenset(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist())


def ids_sha256(source: ImageSource) -> str:
    """SHA-256 over the ids in order, a line each, and the fingerprint where there is one; 64 hex digits."""
    digest = hashlib.sha256()
    for image_id in source.ids:
        digest.update(image_id.encode("utf-8"))
        digest.update(b"\n")
    digest.update(source.fingerprint.encode("utf-8"))
    return digest.hexdigest()


# What is doubtful about the values of each source's images, by index: an image that two passes read counts once.
_DOUBTS: WeakKeyDictionary[ImageSource, dict[int, str]] = WeakKeyDictionary()


def note_doubt(source: ImageSource, index: int, doubt: str) -> None:
    """Remember that an image's values are doubtful, and warn of the first such image of a source.

    Args:
        source: the source.
        index: the image's position.
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


def notes_of(source: ImageSource) -> list[str]:
    """What else a reader should know about a source, one line each: files that are not read, and doubtful values.

    Only images that this process has read can be known to be doubtful.

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


def _doubts(source: ImageSource) -> dict[int, str]:
    try:
        return _DOUBTS.setdefault(source, {})
    except TypeError:  # a user's own source that is not hashable is warned of each time, and not counted
        return {}
