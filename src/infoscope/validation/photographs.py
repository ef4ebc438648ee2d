"""The photographs of a validation: decoded once, held in memory, small."""

from __future__ import annotations

import numpy as np
from PIL import Image

from infoscope.images.arrays import ArraySource
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.source import ImageSource
from infoscope.images.spread import spread_evenly
from infoscope.progress import progress

SHORTER_SIDE = 384
"""Pixels of the shorter side of what is held. Our choice: more than any view of a validation, and under 1 MB each."""


def hold(images: ImageSource, count: int, show_progress: bool = True) -> ArraySource:
    """A sample of the images, spread evenly over them, in memory; those that cannot be read are left out.

    Raises:
        InfoscopeError: none of them can be read.
    """
    sample = sorted(spread_evenly(len(images), count))
    found: list[np.ndarray] = []
    reason = ""
    with progress("Reading photographs", len(sample), "images", enabled=show_progress) as advance:
        for index in sample:
            for batch in decode_ahead(images, [index], _small, 1, 1):
                found += list(batch.pixels)
                reason = reason or next((why for _, why in batch.unreadable), "")
            advance(1)
    if not found:
        raise all_unreadable(images, reason)
    return ArraySource(found, name=images.name)


def _small(image: Image.Image) -> np.ndarray:
    side = min(image.size)
    if side > SHORTER_SIDE:
        width, height = (round(length * SHORTER_SIDE / side) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)
