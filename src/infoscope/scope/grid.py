"""Ground distances between the patches of a square grid."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from infoscope.errors import check_choice
from infoscope.scope.metric import Metric


def patch_distances(side: int, metric: Metric = "euclidean") -> Float64[np.ndarray, "cell cell"]:
    """Distances between patch centres, in patches, for a ``side`` x ``side`` grid in row-major order.

    Args:
        side: patches per side.
        metric: ``euclidean`` (default) or ``l1``; both are metrics, so mass common to two maps may be cancelled.

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
