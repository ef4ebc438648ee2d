"""Which feature of a trained SAE is which planted one."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64

RECOVERED = 0.7
"""Cosine from which a planted feature counts as recovered. Our choice: half of the direction's square."""


def match(
    planted: Float[np.ndarray, "feature width"], trained: Float[np.ndarray, "latent width"]
) -> tuple[Int64[np.ndarray, " feature"], Float64[np.ndarray, " feature"]]:
    """The one-to-one matching of largest total cosine between decoder directions (Hungarian method).

    Args:
        planted: true directions.
        trained: decoder rows; as many as there are planted features, or more.

    Returns:
        For each planted feature the latent, and the cosine of the two directions.

    Example:
        >>> latent, cosine = match(np.eye(2, 3), np.array([[0.0, 2.0, 0.0], [0.0, 0.0, 1.0], [3.0, 0.0, 3.0]]))
        >>> latent.tolist(), cosine.round(3).tolist()
        ([2, 0], [0.707, 1.0])
    """
    from scipy.optimize import linear_sum_assignment

    cosine = _unit(planted) @ _unit(trained).T
    _, latent = linear_sum_assignment(cosine, maximize=True)
    return latent.astype(np.int64), cosine[np.arange(len(planted)), latent]


def _unit(rows: Float[np.ndarray, "row width"]) -> Float64[np.ndarray, "row width"]:
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    unit: Float64[np.ndarray, "row width"] = rows / np.maximum(length, 1e-12)
    return unit
