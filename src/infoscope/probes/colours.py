"""Patches' colours of whole splits, in the place of a model's tokens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int64

from infoscope.backbones.backbone import Backbone
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.resize import Resize
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.probes.baselines import patch_colours
from infoscope.progress import progress

_BATCH = 64


def split_colours(
    images: ImageSource, backbone: Backbone, resize: Resize, show_progress: bool, threads: int | None = None
) -> tuple[Float32[np.ndarray, "image patch 6"], Int64[np.ndarray, " image"]]:
    """Every patch's colours, and the positions of the images that could be read.

    Memory grows with the images: six numbers a patch, a hundredth of a model's tokens.

    Args:
        images: the images.
        backbone: whose patches they are; it is not run.
        resize: how an image becomes square.
        show_progress: report progress on stderr.
        threads: decoding threads.

    Raises:
        InfoscopeError: no image can be read.
    """
    return _read(images, backbone, resize, show_progress, threads, lambda colours: colours)


def image_colours(
    images: ImageSource, backbone: Backbone, resize: Resize, show_progress: bool, threads: int | None = None
) -> tuple[Float32[np.ndarray, "image 6"], Int64[np.ndarray, " image"]]:
    """Each image's mean over its patches' colours, six numbers an image; see `split_colours`."""
    return _read(images, backbone, resize, show_progress, threads, lambda colours: colours.mean(1))


def _read(
    images: ImageSource,
    backbone: Backbone,
    resize: Resize,
    show_progress: bool,
    threads: int | None,
    keep: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    view = Views(backbone.patch_size, backbone.grid, 0, resize).full
    found: list[np.ndarray] = []
    rows: list[int] = []
    reason = ""
    with progress("Reading colours", len(images), "images", enabled=show_progress) as advance:
        for batch in decode_ahead(images, range(len(images)), view, _BATCH, threads):
            reason = reason or next((why for _, why in batch.unreadable), "")
            if batch.index:
                found.append(keep(patch_colours(batch.pixels, backbone.patch_size)))
                rows += batch.index
            advance(len(batch.index) + len(batch.unreadable))
    if not rows:
        raise all_unreadable(images, reason)
    return np.concatenate(found), np.array(rows, np.int64)
