"""Which feature of a trained SAE is which planted one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64

RECOVERED = 0.5
"""Share of a decoder direction's square that lies in the span of one kind's planted directions, from which the feature
is of that kind. Our choice: more than all else of it together."""


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


def kind_share(
    planted: Float[np.ndarray, "feature width"], kinds: Sequence[str], trained: Float[np.ndarray, "latent width"]
) -> Float64[np.ndarray, " latent"]:
    """How much of a decoder direction lies in the directions of its planted feature's kind.

    Features that always fire together may be one feature of the SAE, a mixture of their directions: which of them it is
    cannot be said, but of which kind it is can.

    Args:
        planted: true directions, orthonormal.
        kinds: the kind of each.
        trained: the decoder row that stands for each, ``[feature, width]``.

    Returns:
        Share of its square in the span of the kind's directions, 0 to 1.

    Example:
        >>> trained = np.array([[3.0, 4.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]])
        >>> kind_share(np.eye(3, 4), ["global", "global", "local"], trained)
        array([1. , 0.5, 0.5])
    """
    cosine = _unit(trained) @ planted.T
    same = np.asarray(kinds)[:, None] == np.asarray(kinds)
    share: Float64[np.ndarray, " latent"] = (np.square(cosine) * same).sum(1)
    return share


def _unit(rows: Float[np.ndarray, "row width"]) -> Float64[np.ndarray, "row width"]:
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    unit: Float64[np.ndarray, "row width"] = rows / np.maximum(length, 1e-12)
    return unit
