"""Batch norm of features that several heads share."""

from __future__ import annotations

import torch
from jaxtyping import Float32
from torch import Tensor


class RunningMoments:
    """Normalises each batch by its own moments and keeps their running mean, as torch's batch norm in training does."""

    def __init__(self, features: int, momentum: float, epsilon: float, device: torch.device) -> None:
        self.momentum, self.epsilon = momentum, epsilon
        self.mean = torch.zeros(features, device=device)
        self.variance = torch.ones(features, device=device)

    def normalise(self, rows: Float32[Tensor, "row feature"]) -> Float32[Tensor, "row feature"]:
        """Rows of mean 0 and variance 1 in this batch.

        Example:
            >>> moments = RunningMoments(1, momentum=0.1, epsilon=0.0, device=torch.device("cpu"))
            >>> moments.normalise(torch.tensor([[1.0], [3.0]])).tolist()
            [[-1.0], [1.0]]
            >>> round(moments.mean.item(), 3), round(moments.variance.item(), 3)
            (0.2, 1.1)
        """
        variance, mean = torch.var_mean(rows, 0, correction=0)
        self.mean.lerp_(mean, self.momentum)
        # The running variance is the unbiased one.
        self.variance.lerp_(variance * (len(rows) / max(len(rows) - 1, 1)), self.momentum)
        return (rows - mean) * torch.rsqrt(variance + self.epsilon)

    def fold(
        self, weight: Float32[Tensor, "output feature"], bias: Float32[Tensor, " output"]
    ) -> tuple[Float32[Tensor, "output feature"], Float32[Tensor, " output"]]:
        """A layer on normalised features as one on raw features, by the running moments."""
        scaled = weight * torch.rsqrt(self.variance + self.epsilon)
        return scaled, bias - scaled @ self.mean
