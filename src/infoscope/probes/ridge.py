"""Ridge regression in closed form: every strength from the moments of one pass over the examples."""

from __future__ import annotations

import numpy as np

from infoscope.execution.limits import one_blas_thread
from infoscope.probes.linear import Linear, product
from infoscope.probes.moments import Moments
from infoscope.probes.solvers import RidgePath


def ridge_path(moments: Moments, solver: RidgePath) -> list[Linear]:
    """A head for each strength; the bias is free.

    Minimises half of the mean squared error + strength / 2 * the sum of squared weights of standardised features.

    Args:
        moments: of the training examples and their targets.
        solver: the strengths.

    Example:
        >>> from infoscope.probes.moments import Examples, moments_of
        >>> rows = np.array([[0.0], [1.0], [2.0]], np.float32)
        >>> moments = moments_of(lambda: iter([Examples(rows, 3 * rows + 1, np.ones(3, np.float32))]))
        >>> [head] = ridge_path(moments, RidgePath((1e-9,)))
        >>> head(rows).round(3).ravel().tolist()
        [1.0, 4.0, 7.0]
    """
    with one_blas_thread():
        spectrum, axes = np.linalg.eigh(moments.correlation)
    spectrum = np.maximum(spectrum, 0.0)
    turned = product(axes.T, moments.cross)
    heads = []
    for strength in solver.strengths:
        weight = product(axes, turned / (spectrum + strength)[:, None]) / moments.std[:, None]
        bias = moments.target_mean - moments.mean @ weight
        heads.append(Linear(weight.T.astype(np.float32), bias.astype(np.float32)))
    return heads
