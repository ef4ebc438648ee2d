"""Patches' colours, which stand in a baseline where a model's tokens do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.options import Resize
from infoscope.runtime.progress import progress


def patch_colours(
    pixels: UInt8[np.ndarray, "image height width 3"], patch_size: int
) -> Float32[np.ndarray, "image patch 6"]:
    """The mean colour of each patch and its spread (standard deviation), red, green and blue from 0 to 1.

    They stand where a model's tokens do, for the same heads; their mean over patches stands for an image's features.

    Args:
        pixels: views as the model has them, before its own mean and standard deviation are applied.
        patch_size: n, pixels per patch side.

    Raises:
        InfoscopeError: the view is not made of whole patches.

    Example:
        >>> pixels = np.zeros((1, 2, 4, 3), np.uint8)
        >>> pixels[0, :, :2, 0] = 255
        >>> pixels[0, 0, 2:, 1] = 255
        >>> patch_colours(pixels, 2)
        array([[[1. , 0. , 0. , 0. , 0. , 0. ],
                [0. , 0.5, 0. , 0. , 0.5, 0. ]]], dtype=float32)
    """
    images, height, width, _ = pixels.shape
    n = patch_size
    if height % n or width % n:
        raise InfoscopeError(f"a view of {width} x {height} pixels is not made of patches of {n}")
    patches = pixels.reshape(images, height // n, n, width // n, n, 3).transpose(0, 1, 3, 2, 4, 5)
    patches = patches.reshape(images, -1, n * n, 3)
    mean = patches.mean(2, dtype=np.float64)
    # From sums of whole numbers, so that a patch of one colour has a spread of exactly 0.
    squares = np.square(patches, dtype=np.int64).sum(2)
    variance = (n * n * squares - patches.sum(2, dtype=np.int64) ** 2) / (n * n) ** 2
    return (np.concatenate([mean, np.sqrt(variance)], axis=2) / 255).astype(np.float32)


_BATCH = 64


def split_colours(
    images: ImageSource, backbone: Backbone, resize: Resize, threads: int | None = None
) -> tuple[Float32[np.ndarray, "image patch 6"], Int64[np.ndarray, " image"]]:
    """Every patch's colours, and the positions of the images that could be read.

    Memory grows with the images: six numbers a patch, a hundredth of a model's tokens.

    Args:
        images: the images.
        backbone: whose patches they are; it is not run.
        resize: how an image becomes square.
        threads: decoding threads.

    Raises:
        InfoscopeError: no image can be read.
    """
    return _read(images, backbone, resize, threads, lambda colours: colours)


def image_colours(
    images: ImageSource, backbone: Backbone, resize: Resize, threads: int | None = None
) -> tuple[Float32[np.ndarray, "image 6"], Int64[np.ndarray, " image"]]:
    """Each image's mean over its patches' colours, six numbers an image; see `split_colours`."""
    return _read(images, backbone, resize, threads, lambda colours: colours.mean(1))


def _read(
    images: ImageSource,
    backbone: Backbone,
    resize: Resize,
    threads: int | None,
    keep: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    view = Views(backbone.patch_size, backbone.grid, 0, resize).full
    colours: list[np.ndarray] = []
    rows: list[int] = []
    reason = ""
    with progress("Reading colours", len(images), "images") as advance:
        for batch in decode_ahead(images, range(len(images)), view, _BATCH, threads):
            reason = reason or next((why for _, why in batch.unreadable), "")
            if batch.index:
                colours.append(keep(patch_colours(batch.pixels, backbone.patch_size)))
                rows += batch.index
            advance(len(batch.index) + len(batch.unreadable))
    if not rows:
        raise all_unreadable(images, reason)
    return np.concatenate(colours), np.array(rows, np.int64)
