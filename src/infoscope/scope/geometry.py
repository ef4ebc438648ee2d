"""The grid that maps are measured on, and the lengths that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from infoscope.scope.grid import patch_distances
from infoscope.scope.metric import Metric


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
