"""Mean and covariance of a model's patch tokens, in one pass over some images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from infoscope.backbones.backbone import Backbone
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.resize import Resize
from infoscope.images.source import ImageSource
from infoscope.images.spread import spread_evenly
from infoscope.images.views import Views
from infoscope.progress import progress

# Our choice, the fit check's: 65,536 tokens of a 16 x 16 grid, 170 for each channel of a width of 384.
MOMENT_IMAGES = 256


@dataclass
class Moments:
    """Mean and covariance of tokens, from sums that do not cancel digits where the mean is large.

    Float64 throughout; a batch is joined by the formula of Chan, Golub and LeVeque (1983).

    Attributes:
        mean: ``[width]``.
        scatter: sum over tokens of the outer product of the distance from the mean.
        tokens: how many were seen.

    Example:
        >>> moments = Moments.empty(1)
        >>> for batch in ([[1.0], [2.0]], [[6.0]]):
        ...     moments.update(torch.tensor(batch))
        >>> moments.mean.tolist(), moments.covariance.tolist()
        ([3.0], [[7.0]])
    """

    mean: Float64[np.ndarray, " width"]
    scatter: Float64[np.ndarray, "width width"]
    tokens: int = 0

    @classmethod
    def empty(cls, width: int) -> Moments:
        """Of no tokens."""
        return cls(np.zeros(width), np.zeros((width, width)))

    @property
    def covariance(self) -> Float64[np.ndarray, "width width"]:
        """The unbiased one."""
        return self.scatter / max(self.tokens - 1, 1)

    @torch.no_grad()
    def update(self, tokens: Float[Tensor, "token width"]) -> None:
        """Take in some tokens."""
        exact = tokens.double()
        mean = exact.mean(0)
        exact -= mean
        apart = mean.cpu().numpy() - self.mean
        total = self.tokens + len(tokens)
        self.scatter += (exact.T @ exact).cpu().numpy()
        self.scatter += np.outer(apart, apart) * (self.tokens * len(tokens) / total)
        self.mean += apart * (len(tokens) / total)
        self.tokens = total


def token_moments(
    backbone: Backbone,
    blocks: Sequence[int],
    images: ImageSource,
    *,
    resize: Resize = "stretch",
    batch_size: int | None = None,
    threads: int | None = None,
    show_progress: bool = True,
) -> list[Moments]:
    """Moments of the full views' patch tokens, on at most 256 of the images, spread evenly over them.

    Args:
        backbone: the model, at any block.
        blocks: the blocks whose outputs are meant, which one forward pass reads together.
        images: the images.
        resize: how an image becomes square.
        batch_size: images to a forward pass.
        threads: decoding threads; one a core by default.
        show_progress: report progress on stderr.

    Returns:
        The moments at each block.

    Raises:
        InfoscopeError: no image of the sample can be read.
    """
    view = Views(backbone.patch_size, backbone.grid, 0, resize).full
    moments = {block: Moments.empty(backbone.at(block, "output").width) for block in blocks}

    def take(block: int, tokens: Tensor) -> None:
        moments[block].update(tokens[:, backbone.prefix_tokens :].flatten(0, 1))

    sample = sorted(spread_evenly(len(images), MOMENT_IMAGES))
    reason = ""
    with progress("Mean and covariance", len(sample), "images", enabled=show_progress) as advance:
        for batch in decode_ahead(images, sample, view, batch_size or backbone.batch_size, threads):
            reason = reason or next((why for _, why in batch.unreadable), "")
            if batch.index:
                backbone.read_blocks(batch.pixels, blocks, take)
            advance(len(batch.index) + len(batch.unreadable))
    if not moments[blocks[0]].tokens:
        raise all_unreadable(images, reason)
    return [moments[block] for block in blocks]
