"""Where position-bound features are on the grid: rings, rows, single patches, and the border."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

EDGED = ("border", "side", "corner")
PLAIN = ("ring", "row", "column", "patch")


def draw_shapes(
    count: int, edged: int, grid: int, random: torch.Generator
) -> tuple[Float[Tensor, "shape patch"], list[str]]:
    """Shapes and their names, the edged ones first.

    Example:
        >>> shapes, names = draw_shapes(7, 3, 14, torch.Generator().manual_seed(0))
        >>> names
        ['border', 'side', 'corner', 'ring', 'row', 'column', 'patch']
        >>> shapes.shape, [int(shape.sum()) for shape in shapes[[0, 1, 6]]]
        (torch.Size([7, 196]), [52, 14, 1])
    """
    names = [EDGED[i % len(EDGED)] for i in range(edged)] + [PLAIN[i % len(PLAIN)] for i in range(count - edged)]
    shapes = [_shape(name, grid, random).flatten().float() for name in names]
    return torch.stack(shapes) if shapes else torch.zeros(0, grid**2), names


def _shape(name: str, grid: int, random: torch.Generator) -> Bool[Tensor, "row column"]:
    def drawn(least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (), generator=random))

    place = torch.arange(grid)
    row, column = place[:, None].expand(grid, grid), place[None].expand(grid, grid)
    to_border = torch.stack([row, column, grid - 1 - row, grid - 1 - column])
    if name == "border":
        return to_border.amin(0) == 0
    if name == "side":
        return to_border[drawn(0, 3)] == 0
    if name == "corner":
        side = drawn(0, 3)
        return (to_border[side] <= 1) & (to_border[(side + 1) % 4] <= 1)
    if name == "ring":
        centre = (grid - 1) / 2
        away, radius = torch.hypot(row - centre, column - centre), drawn(2, max(2, grid // 2 - 2))
        return (away - radius).abs() <= 0.5
    # Not in the outermost rows, which are the border's.
    if name == "row":
        return row == drawn(1, grid - 2)
    if name == "column":
        return column == drawn(1, grid - 2)
    return (row == drawn(1, grid - 2)) & (column == drawn(1, grid - 2))
