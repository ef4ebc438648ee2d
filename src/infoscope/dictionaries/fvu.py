"""Fraction of variance unexplained, from sums that are exact enough and merge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class FVU:
    """Sum of squared errors over the sum of squared distances from the mean token, in one pass.

    All sums are float64. Distances are taken from each batch's own mean and joined by the formula of Chan, Golub and
    LeVeque (1983), so a mean far larger than the spread does not cancel digits, and accumulators of different batches
    merge.

    Args:
        width: length of a token.

    Attributes:
        tokens: how many tokens were seen.
        mean: float64 ``[width]``, their mean.
        variation: sum over tokens of the squared distance from the mean.
        error: sum over tokens of the squared distance from the reconstruction.

    Example:
        >>> fvu = FVU(width=2)
        >>> tokens = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 0.0]])
        >>> fvu.update(tokens, tokens + 1.0)
        >>> fvu.value      # 6 over 8
        0.75
    """

    def __init__(self, width: int):
        self.tokens = 0
        self.mean = np.zeros(width)
        self.variation = 0.0
        self.error = 0.0

    @property
    def value(self) -> float:
        """The fraction; NaN before any two different tokens were seen."""
        return self.error / self.variation if self.variation > 0 else float("nan")

    @property
    def mean_over_std(self) -> float:
        """|mean| / |std|, the length of the mean token over the root of the total variance (arXiv 2605.31518)."""
        if not self.variation > 0:
            return float("nan")
        return float(np.linalg.norm(self.mean) / np.sqrt(self.variation / self.tokens))

    @torch.no_grad()
    def update(self, tokens: Float[Tensor, "token width"], reconstruction: Float[Tensor, "token width"]) -> None:
        """Take in some tokens and what the SAE makes of them."""
        if len(tokens) == 0:
            return
        exact = tokens.double()
        mean = exact.mean(0)
        error = (exact - reconstruction).square().sum()
        variation = (exact - mean).square().sum()
        self._add(len(tokens), mean.cpu().numpy(), float(variation), float(error))

    def merge(self, other: FVU) -> None:
        """Take in all that another accumulator has seen."""
        if other.tokens:
            self._add(other.tokens, other.mean, other.variation, other.error)

    def arrays(self) -> dict[str, np.ndarray]:
        """As named arrays, for a partial result's file."""
        return {
            "tokens": np.array(self.tokens),
            "mean": self.mean,
            "variation": np.array(self.variation),
            "error": np.array(self.error),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> FVU:
        """What `arrays` gave."""
        fvu = cls(len(arrays["mean"]))
        fvu._add(int(arrays["tokens"]), np.array(arrays["mean"]), float(arrays["variation"]), float(arrays["error"]))
        return fvu

    def _add(self, tokens: int, mean: np.ndarray, variation: float, error: float) -> None:
        total = self.tokens + tokens
        if total == 0:
            return
        apart = mean - self.mean
        self.variation += variation + float(apart @ apart) * self.tokens * tokens / total
        self.mean = self.mean + apart * (tokens / total)
        self.error += error
        self.tokens = total
