"""The overlap of two crops: its patches, the ground distances between them, and the lengths that follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from infoscope.errors import check_choice
from infoscope.options import Metric


def patch_distances(side: int, metric: Metric = "euclidean") -> Float64[np.ndarray, "cell cell"]:
    """Distances between patch centres, in patches, for a ``side`` x ``side`` grid in row-major order.

    Args:
        side: patches per side.
        metric: ``euclidean`` (default) or ``l1``; both are metrics, so mass that two maps share may be cancelled.

    Returns:
        A symmetric matrix ``[side^2, side^2]``. Its largest entry is D, the grid diagonal that scales a CDS:
        sqrt(2)(side-1) Euclidean, 2(side-1) L1 (method, section 3).

    Example:
        >>> patch_distances(2, "l1")
        array([[0., 1., 1., 2.],
               [1., 0., 2., 1.],
               [1., 2., 0., 1.],
               [2., 1., 1., 0.]])
    """
    check_choice("ground distance", metric, Metric)
    row, column = np.divmod(np.arange(side * side), side)
    rows = np.abs(row[:, None] - row[None, :]).astype(np.float64)
    columns = np.abs(column[:, None] - column[None, :]).astype(np.float64)
    distances: Float64[np.ndarray, "cell cell"] = rows + columns if metric == "l1" else np.hypot(rows, columns)
    return distances


@dataclass(frozen=True)
class Geometry:
    """Two crops of ``grid`` x ``grid`` patches, ``shift`` patches apart both ways.

    Example:
        >>> geometry = Geometry(grid=14, shift=2)
        >>> round(geometry.movement, 3), round(geometry.largest, 3), round(geometry.unrelated, 4)
        (2.828, 15.556, 0.4008)
    """

    grid: int
    """p, patches per side."""
    shift: int
    """s, patches between the crops."""
    metric: Metric = "euclidean"
    """Ground distance between patches."""

    @property
    def side(self) -> int:
        """Patches per side of the overlap, p - s."""
        return self.grid - self.shift

    @property
    def cells(self) -> int:
        """Patches of the overlap."""
        return self.side * self.side

    @property
    def largest(self) -> float:
        """D, the largest ground distance on the overlap, in patches."""
        return self._longest(self.side - 1)

    @property
    def full_largest(self) -> float:
        """The largest ground distance on the full grid, in patches."""
        return self._longest(self.grid - 1)

    @property
    def movement(self) -> float:
        """How far the pixels move from crop to crop, in patches."""
        return self._longest(self.shift)

    @property
    def unrelated(self) -> float:
        """Mean CDS of two independent single-patch maps, uniform over the overlap (method, section 3)."""
        distances = patch_distances(self.side, self.metric)
        return float(distances.mean() / distances.max())

    def _longest(self, steps: int) -> float:
        return 2.0 * steps if self.metric == "l1" else 2**0.5 * steps
