"""The first pass over images: norms of every patch at every block, and at one block in both shifted crops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from PIL import Image
from torch import Tensor

from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.source import ImageSource
from infoscope.images.spread import spread_evenly
from infoscope.images.views import Views
from infoscope.runtime.execution import Execution
from infoscope.runtime.progress import progress


@dataclass(frozen=True)
class Norms:
    """Norms of the residual stream of a sample of images, before any final norm.

    All of them are kept, float32: 4 bytes times images x (blocks x patches + 2 patches). What is made of them
    does not depend on how the images were batched.

    Attributes:
        image: position of each image in its source, ascending.
        patches: ``[image, block, patch]``, the full view, row-major.
        prefix: ``[image, block, token]``: CLS and register tokens, in the model's order.
        crops: ``[image, 2, patch]``: the two shifted crops, at the backbone's block.
        skipped: position and reason of each image that could not be read.
    """

    image: Int64[np.ndarray, " image"]
    patches: Float32[np.ndarray, "image block patch"]
    prefix: Float32[np.ndarray, "image block token"]
    crops: Float32[np.ndarray, "image 2 patch"]
    skipped: list[tuple[int, str]]

    @property
    def tokens(self) -> int:
        """Patch tokens at a block."""
        return int(self.patches.shape[0] * self.patches.shape[2])

    def outliers(self, block: int, threshold: float) -> Bool[np.ndarray, "image patch"]:
        """Which tokens of each image are above a threshold."""
        return self.patches[:, block] > threshold


def sample_of(count: int, most: int) -> list[int]:
    """All of ``count`` images, or ``most`` spread evenly over them.

    Example:
        >>> sample_of(3, 10), sample_of(100, 3)
        ([0, 1, 2], [0, 50, 99])
    """
    return sorted(spread_evenly(count, most))


@torch.no_grad()
def read_norms(
    backbone: Backbone,
    images: ImageSource,
    views: Views,
    sample: list[int],
    execution: Execution,
) -> Norms:
    """Norms of the sample: one forward pass for the full view, which is read at every block, and one for both crops.

    Raises:
        InfoscopeError: none of the sample can be read, or the model gives tokens that are not finite.
    """
    cells, blocks, prefix = backbone.grid**2, range(backbone.blocks), backbone.prefix_tokens
    kept = np.empty((len(sample), len(blocks), prefix + cells), np.float32)
    crops = np.empty((len(sample), 2, cells), np.float32)
    read: list[int] = []
    skipped: list[tuple[int, str]] = []
    # The crops are two views to an image.
    count = max(1, (execution.batch_size or backbone.batch_size) // 2)

    def view(image: Image.Image) -> np.ndarray:
        return np.concatenate([views.full(image)[None], views.crops(image)])

    with progress("Reading norms", len(sample), "images") as advance:
        for batch in decode_ahead(images, sample, view, count, execution.threads):
            skipped.extend(batch.unreadable)
            if batch.index:
                rows = slice(len(read), len(read) + len(batch.index))
                norms = backbone.read_blocks(batch.pixels[:, 0], blocks, _norms)
                kept[rows] = torch.stack(norms, dim=1).cpu().numpy()
                both = np.ascontiguousarray(batch.pixels[:, 1:]).reshape(-1, *batch.pixels.shape[2:])
                (shifted,) = backbone.read_blocks(both, [backbone.block], _norms)
                crops[rows] = shifted[:, prefix:].reshape(-1, 2, cells).cpu().numpy()
                _check_finite(backbone, images, batch.index, kept[rows], crops[rows])
                read += batch.index
            advance(len(batch.index) + len(batch.unreadable))
    if not read:
        raise all_unreadable(images, skipped[0][1])
    kept, crops = kept[: len(read)], crops[: len(read)]
    return Norms(np.array(read, np.int64), kept[:, :, prefix:], kept[:, :, :prefix], crops, skipped)


def _norms(block: int, tokens: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(tokens, dim=-1)
    return norms


def _check_finite(
    backbone: Backbone, images: ImageSource, index: list[int], full: np.ndarray, crops: np.ndarray
) -> None:
    """Refuse NaN and infinity, which would pass for no outliers at all."""
    broken = ~(np.isfinite(full).all((1, 2)) & np.isfinite(crops).all((1, 2)))
    if broken.any():
        raise InfoscopeError(
            f"{backbone.name} gives tokens that are NaN or infinite on {images.ids[index[int(np.argmax(broken))]]}: "
            "choose another --precision, or fetch the model again"
        )
