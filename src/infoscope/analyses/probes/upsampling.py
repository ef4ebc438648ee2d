"""Bilinear upsampling from the patch grid to a picture, and its transpose, in strips of bounded memory.

The same numbers as torch's `interpolate` with ``align_corners=False``, as products with two small matrices: layers and
upsampling are linear, so what is upsampled are outputs, of which there are fewer than features. Values are laid out
``[row, channel, column]``, so that a softmax over channels runs along rows of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float32
from torch import Tensor

# Our choice: what a strip's values may take; a few such arrays are alive at a time.
STRIP_BYTES = 8 * 2**20


@dataclass(frozen=True, eq=False)
class Upsampling:
    """From a grid to a picture.

    Attributes:
        down: ``[row, grid]``, the share of each grid row in each row of the picture.
        across: ``[column, grid]``, the same of columns.

    Example:
        >>> up = Upsampling.between(2, (4, 4))
        >>> up.whole(torch.tensor([[[0.0, 4.0]], [[0.0, 4.0]]]))[0, 0].tolist()
        [0.0, 1.0, 3.0, 4.0]
    """

    down: Float32[Tensor, "row grid"]
    across: Float32[Tensor, "column grid"]

    @staticmethod
    def between(grid: int, shape: tuple[int, int], device: str = "cpu") -> Upsampling:
        """For a grid of so many patches a side, and a picture of that shape."""
        return Upsampling(_shares(grid, shape[0], device), _shares(grid, shape[1], device))

    def thinned(self, step: int) -> Upsampling:
        """To every ``step``-th row and column of the picture alone, from the middle of the first ``step``."""
        if step == 1:
            return self
        return Upsampling(self.down[step // 2 :: step].contiguous(), self.across[step // 2 :: step].contiguous())

    def strips(self, channels: int) -> Iterator[slice]:
        """The picture's rows in strips, so that one strip of all channels stays within `STRIP_BYTES`."""
        size = max(1, STRIP_BYTES // (4 * channels * len(self.across)))
        for start in range(0, len(self.down), size):
            yield slice(start, min(start + size, len(self.down)))

    def up(self, values: Float32[Tensor, "grid channel grid"], strip: slice) -> Float32[Tensor, "row channel column"]:
        """A strip of the picture."""
        tall = self.down[strip] @ values.reshape(len(values), -1)
        wide = tall.view(-1, values.shape[2]) @ self.across.T
        return wide.view(-1, values.shape[1], len(self.across))

    def whole(self, values: Float32[Tensor, "grid channel grid"]) -> Float32[Tensor, "row channel column"]:
        """The whole picture."""
        return self.up(values, slice(None))

    def back(self, slopes: Float32[Tensor, "row channel column"], strip: slice) -> Float32[Tensor, "grid channel grid"]:
        """What slopes of a strip's pixels are for the grid: the transpose of ``up``."""
        narrow = slopes.reshape(-1, slopes.shape[2]) @ self.across
        short = self.down[strip].T @ narrow.view(len(slopes), -1)
        return short.view(-1, slopes.shape[1], self.across.shape[1])


@lru_cache(maxsize=64)
def _shares(grid: int, size: int, device: str) -> Float32[Tensor, "pixel grid"]:
    """The share of each of a row of patches in each of a row of pixels."""
    centre = (torch.arange(size, dtype=torch.float64) + 0.5) * (grid / size) - 0.5
    centre = centre.clamp(0, grid - 1)
    first = centre.floor().long().clamp(max=max(grid - 2, 0))
    shares = torch.zeros(size, grid, dtype=torch.float64)
    pixel = torch.arange(size)
    shares[pixel, first] = 1 - (centre - first)
    if grid > 1:
        shares[pixel, first + 1] = centre - first
    return shares.to(device, torch.float32)
