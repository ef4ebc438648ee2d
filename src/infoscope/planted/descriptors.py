"""What a patch looks like, in numbers that depend on its own pixels alone: colours, edges, ramps, texture."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

_WAVES = 4
"""Cosines per side of the ramps and ridges, the constant one among them."""
_ANGLES = (0, 45, 90, 135)

_COLOURS = ("brightness", "red-green", "blue-yellow", "saturation", "darkest", "brightest", "contrast")
_RIDGES = tuple(f"wave {row},{column}" for row in range(_WAVES) for column in range(_WAVES) if row or column)

DESCRIPTORS: tuple[str, ...] = (*_COLOURS, *(f"edges {angle}°" for angle in _ANGLES), "texture", *_RIDGES)
"""Names of the descriptors, in order."""
STATISTICS: tuple[str, ...] = (
    *(f"mean {name}" for name in DESCRIPTORS[: -len(_RIDGES)]),
    *(f"spread of {name}" for name in DESCRIPTORS),
)
"""Names of the statistics of a view. The mean of a wave is not among them: it is a matter of where in its patch an edge
lies, and another crop of the same picture has another."""
CONTRAST = _COLOURS.index("contrast")
"""Which of them says how much a patch holds: the standard deviation of its brightness."""


def describe(view: UInt8[Tensor, "row column 3"], patch_size: int) -> Float[Tensor, "patch descriptor"]:
    """The descriptors of each patch of a view.

    Args:
        view: 8-bit RGB, ``[pn, pn, 3]``.
        patch_size: n.

    Returns:
        ``[p * p, descriptor]``, patches row-major, in the order of `DESCRIPTORS`, float32. Equal patches have equal
        descriptors wherever they are.

    Example:
        >>> stripes = torch.zeros(16, 16, 3, dtype=torch.uint8); stripes[:, 8:] = 255
        >>> described = dict(zip(DESCRIPTORS, describe(stripes, 8)[0].tolist()))   # the first patch is black
        >>> described["brightness"], described["contrast"]
        (0.0, 0.0)
        >>> described = dict(zip(DESCRIPTORS, describe(stripes, 16)[0].tolist()))  # one patch with an upright edge
        >>> round(described["brightness"], 3), described["edges 0°"] > described["edges 90°"]
        (0.5, True)
    """
    n = patch_size
    p = view.shape[0] // n
    # Colours apart, since a reduction over an axis of three is slow.
    red, green, blue = (
        channel.reshape(p, n, p, n).permute(0, 2, 1, 3).reshape(p * p, n, n).to(torch.float32) / 255
        for channel in view.unbind(-1)
    )
    luma = (red + green + blue) / 3
    colour = [channel.mean((1, 2)) for channel in (red, green, blue)]
    saturation = torch.maximum(torch.maximum(red, green), blue) - torch.minimum(torch.minimum(red, green), blue)
    down = (luma[:, 1:, :-1] - luma[:, :-1, :-1]).flatten(1)
    across = (luma[:, :-1, 1:] - luma[:, :-1, :-1]).flatten(1)
    edges = [
        (math.cos(math.radians(angle)) * across + math.sin(math.radians(angle)) * down).abs().mean(1).sqrt()
        for angle in _ANGLES
    ]
    flat = luma.flatten(1)
    waves = _waves(n)
    ridges = flat @ waves
    # What the waves leave of the patch.
    texture = (flat - flat.mean(1, keepdim=True) - ridges @ waves.T).square().mean(1).sqrt().sqrt()
    return torch.stack(
        [
            flat.mean(1),
            colour[0] - colour[1],
            colour[2] - (colour[0] + colour[1]) / 2,
            saturation.mean((1, 2)),
            flat.amin(1),
            flat.amax(1),
            flat.var(1, correction=0).sqrt(),
            *edges,
            texture,
            *(ridges / n).unbind(1),
        ],
        dim=1,
    )


def view_statistics(z: Float[Tensor, "*view patch descriptor"]) -> Float[Tensor, "*view statistic"]:
    """Means and spreads over a view's patches, in the order of `STATISTICS`.

    Example:
        >>> view_statistics(torch.ones(3, 4, len(DESCRIPTORS))).shape, len(STATISTICS)
        (torch.Size([3, 39]), 39)
    """
    means = z[..., : len(DESCRIPTORS) - len(_RIDGES)].mean(-2)
    return torch.cat([means, z.var(-2, correction=0).sqrt()], dim=-1)


@lru_cache(maxsize=8)
def _waves(n: int) -> Float[Tensor, "pixel wave"]:
    """Orthonormal products of cosines over a patch (DCT-II), without the constant."""
    pixel = torch.arange(n, dtype=torch.float64) + 0.5
    cosines = torch.stack([torch.cos(math.pi * wave * pixel / n) for wave in range(_WAVES)])
    cosines = cosines / cosines.norm(dim=1, keepdim=True)
    products = torch.einsum("ui,vj->uvij", cosines, cosines).reshape(_WAVES**2, n * n)[1:]
    return products.T.contiguous().to(torch.float32)
