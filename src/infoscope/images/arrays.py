"""Images already in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.decode import UnreadableImageError, readable_rgb, upright_rgb


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
