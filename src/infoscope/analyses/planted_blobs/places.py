"""Where things are in a view, by its pixels alone: landmarks, regions of texture, flat patches, and how it looks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

_NEIGHBOURS = 2
"""A landmark is the largest among so many cells on every side, and a cell is half a patch. Our choice: instances are
then more than a patch apart."""

TEXTURES = 5
"""Local statistics of a patch: spread, colourfulness, edges across, edges down, brightness."""
LOOKS = 21
"""Numbers that describe a whole view: five levels of each colour channel, and the directions of its edges."""


def read_cells(view: UInt8[Tensor, "row column 3"], grid: int) -> Float[Tensor, "3 cell_row cell_column"]:
    """Mean colour of each half patch, on the scale -1..1.

    Example:
        >>> read_cells(torch.full((24, 24, 3), 255, dtype=torch.uint8), 3).shape
        torch.Size([3, 6, 6])
    """
    pixels = view.permute(2, 0, 1).float() / 127.5 - 1
    side = view.shape[0] // (2 * grid)
    return nnf.avg_pool2d(pixels[None], side)[0]


def landmarks(
    cells: Float[Tensor, "3 cell_row cell_column"], filters: Float[Tensor, "filter 3 size size"]
) -> Float[Tensor, "filter cell_row cell_column"]:
    """The response of each filter where it is a local maximum, and minus infinity elsewhere.

    The same pixels give the same landmarks wherever the view is cut, except within four cells of its border, where the
    neighbourhood is not the same; there the outermost cells are repeated outwards. The outermost cells themselves are
    no landmarks, since whatever rises towards the border would have one there.

    Args:
        cells: of a view.
        filters: of odd side.

    Example:
        A view, and what is left of it without its first four rows and columns of cells:

        >>> random = torch.Generator().manual_seed(0)
        >>> cells, filters = torch.randn(3, 24, 24, generator=random), torch.randn(2, 3, 3, 3, generator=random)
        >>> whole, cut = landmarks(cells, filters), landmarks(cells[:, 4:, 4:].contiguous(), filters)
        >>> found, again = whole[:, 8:20, 8:20], cut[:, 4:16, 4:16]
        >>> torch.equal(found > 0, again > 0), int((found > 0).sum()) > 0
        (True, True)
    """
    line = torch.tensor([1.0, 2.0, 1.0], device=cells.device) / 4
    smooth = nnf.conv2d(_grown(cells[:, None], 1), (line[:, None] * line)[None, None])[:, 0]
    response = nnf.conv2d(_grown(smooth[None], filters.shape[-1] // 2), filters)
    # One direction after the other, which takes less than half of the time.
    size = 2 * _NEIGHBOURS + 1
    largest = nnf.max_pool2d(response, (size, 1), stride=1, padding=(_NEIGHBOURS, 0))
    largest = nnf.max_pool2d(largest, (1, size), stride=1, padding=(0, _NEIGHBOURS))
    found = torch.where((response == largest) & (response > 0), response, -torch.inf)[0]
    found[:, [0, -1]] = -torch.inf
    found[:, :, [0, -1]] = -torch.inf
    return found


def _grown(values: Float[Tensor, "n c row column"], rim: int) -> Float[Tensor, "n c wide_row wide_column"]:
    """With the outermost cells repeated."""
    return nnf.pad(values, (rim, rim, rim, rim), mode="replicate")


def read_textures(view: UInt8[Tensor, "row column 3"], grid: int) -> Float[Tensor, "patch texture"]:
    """Local statistics of each patch with its neighbours, row-major; see `TEXTURES`.

    Example:
        >>> read_textures(torch.zeros(24, 24, 3, dtype=torch.uint8), 3).shape
        torch.Size([9, 5])
    """
    pixels = view.permute(2, 0, 1).float() / 255
    side = view.shape[0] // grid
    light = pixels.mean(0)
    across = nnf.pad((light[:, 1:] - light[:, :-1]).abs(), (0, 1))
    down = nnf.pad((light[1:] - light[:-1]).abs(), (0, 0, 0, 1))
    stack = torch.stack([light, light.square(), pixels.amax(0) - pixels.amin(0), across, down])
    mean = nnf.avg_pool2d(stack[None], side)
    # A region should not be torn by single patches.
    near = nnf.avg_pool2d(mean, 3, stride=1, padding=1, count_include_pad=False)[0].flatten(1)
    spread = (near[1] - near[0].square()).clamp_min(0).sqrt()
    return torch.stack([spread, near[2], near[3], near[4], near[0]], dim=1)


def patch_spread(view: UInt8[Tensor, "row column 3"], grid: int) -> Float[Tensor, " patch"]:
    """Standard deviation of each patch's brightness.

    Example:
        >>> patch_spread(torch.zeros(24, 24, 3, dtype=torch.uint8), 3).tolist() == [0.0] * 9
        True
    """
    light = view.float().mean(-1)
    side = view.shape[0] // grid
    patches = light.reshape(grid, side, grid, side).permute(0, 2, 1, 3).reshape(grid * grid, -1)
    return patches.var(1, correction=0).sqrt()


def read_looks(view: UInt8[Tensor, "row column 3"]) -> Float[Tensor, " look"]:
    """How the whole view looks: smooth histograms of its colours, and of the directions of its edges.

    Example:
        >>> read_looks(torch.zeros(24, 24, 3, dtype=torch.uint8)).shape == (LOOKS,)
        True
    """
    pixels = view[::2, ::2].permute(2, 0, 1).float() / 255
    levels = torch.linspace(0, 1, 5, device=view.device)
    shares = [(1 - (pixels - level).abs() * 4).clamp_min(0).mean((1, 2)) for level in levels]
    light = pixels.mean(0)
    across, down = light[:-1, 1:] - light[:-1, :-1], light[1:, :-1] - light[:-1, :-1]
    angle, length = torch.atan2(down, across), torch.hypot(across, down)
    turns = [((2 * (angle - math.pi * k / 6)).cos().clamp_min(0) * length).mean() for k in range(6)]
    return torch.cat([torch.stack(shares, 1).flatten(), torch.stack(turns).sqrt()])


def bumps(grid: int, radius: float, least: float = 0.15) -> Float[Tensor, "patch cell"]:
    """What a blob on each cell gives to each patch: a Gaussian of the distance, and 0 where that is under ``least``.

    Args:
        grid: p.
        radius: standard deviation in patches.
        least: our choice, so that a blob ends.

    Example:
        >>> tall = bumps(6, 1.0).amax(0)        # the nearest patch's centre is a quarter of a patch off each way
        >>> round(float(tall.min()), 3), bumps(6, 1.0).shape
        (0.939, torch.Size([36, 144]))
    """
    patch, cell = torch.arange(grid) + 0.5, (torch.arange(2 * grid) + 0.5) / 2
    line = (patch[:, None] - cell).square()
    square = line[:, None, :, None] + line[None, :, None, :]
    bump = torch.exp(-square / (2 * radius**2)).reshape(grid**2, 4 * grid**2)
    return torch.where(bump < least, 0.0, bump)


def flattest(spread: Float[Tensor, " patch"], share: float) -> Bool[Tensor, " patch"]:
    """The patches of the lowest spread, a share of all.

    Example:
        >>> flattest(torch.tensor([3.0, 1.0, 2.0, 4.0]), 0.5).tolist()
        [False, True, True, False]
    """
    chosen = torch.zeros_like(spread, dtype=torch.bool)
    chosen[spread.argsort(stable=True)[: max(1, int(share * len(spread)))]] = True
    return chosen
