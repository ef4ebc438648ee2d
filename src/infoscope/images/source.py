"""Image sources: a stable order, an id for every image, and a length."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np
from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.arrays import ArraySource
from infoscope.images.folder import FolderSource
from infoscope.images.huggingface import HuggingFaceSource, is_saved_dataset, load_hub, load_saved

if TYPE_CHECKING:
    import datasets

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.\[\]%-]+)?")


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
        source: a folder (searched recursively, ordered by the bytes of the relative paths); a Hugging Face data set:
            a ``datasets.Dataset``, a directory made by its ``save_to_disk``, or a hub id ``owner/name[:split]``
            (split ``train`` when not named); a uint8 array ``[image, height, width, 3]``, or a sequence of such
            images or of PIL images; or a source already open.

    Raises:
        InfoscopeError: there is no such folder or data set, or it holds no images.

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
        raise InfoscopeError(f"no images in {opened.name}")
    return opened


def _open_named(name: str) -> ImageSource:
    path = Path(name).expanduser()
    if path.is_dir():
        return HuggingFaceSource(load_saved(path), name) if is_saved_dataset(path) else FolderSource(path, name)
    if path.exists():
        raise InfoscopeError(f"{name} is a file; give the folder that holds the images")
    if HUB_ID.fullmatch(name) and not name.startswith("."):
        return HuggingFaceSource(load_hub(name), name)
    raise InfoscopeError(f"no such folder of images: {name}")


def ids_sha256(source: ImageSource) -> str:
    """SHA-256 over the ids in order, a line each, and the fingerprint where there is one; 64 hex digits."""
    digest = hashlib.sha256()
    for image_id in source.ids:
        digest.update(image_id.encode("utf-8"))
        digest.update(b"\n")
    digest.update(source.fingerprint.encode("utf-8"))
    return digest.hexdigest()
