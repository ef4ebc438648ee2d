"""Mean, spread and covariance of features, in one pass: what convex heads are standardised and preconditioned with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Float64

from infoscope.errors import InfoscopeError
from infoscope.probes.linear import product


@dataclass(frozen=True)
class Examples:
    """Some rows to learn from.

    Attributes:
        rows: the features.
        target: what is to be predicted: shares of classes that sum to 1, or one number each.
        weight: how much each row counts.
    """

    rows: Float32[np.ndarray, "row feature"]
    target: Float32[np.ndarray, "row target"]
    weight: Float32[np.ndarray, " row"]


# Each call passes over the same examples once more, in the same batches.
Stream: TypeAlias = Callable[[], Iterator[Examples]]


@dataclass(frozen=True)
class Moments:
    """Weighted moments of features and of their targets.

    Attributes:
        weight: the sum of the weights.
        mean: of each feature.
        std: of each feature; 1 where a feature never changes, so that it is left at 0 by standardising.
        correlation: of the standardised features.
        target_mean: of each target.
        cross: the mean product of standardised features and centred targets.
        target_spread: the mean square of centred targets.
    """

    weight: float
    mean: Float64[np.ndarray, " feature"]
    std: Float64[np.ndarray, " feature"]
    correlation: Float64[np.ndarray, "feature feature"]
    target_mean: Float64[np.ndarray, " target"]
    cross: Float64[np.ndarray, "feature target"]
    target_spread: Float64[np.ndarray, " target"]

    def standardise(self, rows: Float32[np.ndarray, "row feature"]) -> Float32[np.ndarray, "row feature"]:
        """Rows of mean 0 and spread 1."""
        standard = rows - self.mean.astype(np.float32)
        standard /= self.std.astype(np.float32)
        return standard


def moments_of(stream: Stream) -> Moments:
    """Moments of a stream's examples.

    Products are of float32 values around the first batch's mean and are summed in float64.

    Raises:
        InfoscopeError: no example counts.

    Example:
        >>> rows = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
        >>> found = moments_of(lambda: iter([Examples(rows, rows[:, :1], np.ones(2, np.float32))]))
        >>> found.mean.tolist(), found.std.tolist(), found.correlation.tolist()
        ([2.0, 5.0], [1.0, 1.0], [[1.0, 0.0], [0.0, 0.0]])
    """
    weight = 0.0
    origin = target_origin = None
    for examples in stream():
        if origin is None or target_origin is None:
            origin, target_origin = examples.rows.mean(0), examples.target.mean(0)
            width, targets = len(origin), len(target_origin)
            first, square = np.zeros(width), np.zeros((width, width))
            target_first, target_square = np.zeros(targets), np.zeros(targets)
            cross = np.zeros((width, targets))
        rows, target = examples.rows - origin, examples.target - target_origin
        weighted = rows * examples.weight[:, None]
        target_weighted = target * examples.weight[:, None]
        weight += float(examples.weight.sum(dtype=np.float64))
        first += weighted.sum(0, dtype=np.float64)
        square += product(weighted.T, rows)
        cross += product(rows.T, target_weighted)
        target_first += target_weighted.sum(0, dtype=np.float64)
        target_square += (target_weighted * target).sum(0, dtype=np.float64)
    if origin is None or target_origin is None or weight <= 0:
        raise InfoscopeError(
            "there is nothing to train on: no image or patch has a target that counts"
            "; check the labels, and what is ignored"
        )
    first, target_first = first / weight, target_first / weight
    covariance = square / weight - np.outer(first, first)
    variance = np.diagonal(covariance)
    # Rounding leaves a constant feature a variance of about 1e-7 of its square.
    still = variance <= 1e-10 * np.maximum((origin + first) ** 2, 1e-20)
    std = np.where(still, 1.0, np.sqrt(np.where(still, 1.0, variance)))
    moving = np.where(still, 0.0, 1.0)
    return Moments(
        weight=weight,
        mean=origin + first,
        std=std,
        correlation=covariance / np.outer(std, std) * np.outer(moving, moving),
        target_mean=target_origin + target_first,
        cross=(cross / weight - np.outer(first, target_first)) / std[:, None] * moving[:, None],
        target_spread=np.maximum(target_square / weight - target_first**2, 0.0),
    )
