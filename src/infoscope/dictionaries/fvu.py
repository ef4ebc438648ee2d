"""Fraction of variance unexplained, and the sums behind a fit check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor


class FVU:
    """Sum of squared errors over the sum of squared distances from the mean token, in one pass.

    All sums are float64. Distances are taken from each batch's own mean, and batches are merged by the formula of Chan,
    Golub and LeVeque (1983), so that no digits are lost where the mean is far larger than the spread.

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
        """The fraction; NaN before two different tokens were seen."""
        return self.error / self.variation if self.variation > 0 else float("nan")

    @property
    def mean_over_std(self) -> float:
        """|mean| / |std|, the length of the mean token over the root of the total variance (arXiv 2605.31518)."""
        if not self.variation > 0:
            return float("nan")
        return float(np.linalg.norm(self.mean) / np.sqrt(self.variation / self.tokens))

    @torch.no_grad()
    def update(self, tokens: Float[Tensor, "token width"], reconstruction: Float[Tensor, "token width"]) -> None:
        """Add tokens and their reconstructions."""
        if len(tokens) == 0:
            return
        exact = tokens.double()
        mean = exact.mean(0)
        error = (exact - reconstruction).square().sum()
        variation = (exact - mean).square().sum()
        self._add(len(tokens), mean.cpu().numpy(), float(variation), float(error))

    def merge(self, other: FVU) -> None:
        """Add all that another accumulator has seen."""
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
        # Chan's formula: beside their own variations, the distance of the two means counts.
        apart = mean - self.mean
        self.variation += variation + float(apart @ apart) * self.tokens * tokens / total
        self.mean = self.mean + apart * (tokens / total)
        self.error += error
        self.tokens = total


@dataclass
class FitSums:
    """The sums that the fit check is computed from.

    Attributes:
        fvu: sums behind the fraction of variance unexplained, and the number of tokens.
        norm: sum of the tokens' Euclidean norms.
        tokens_active: ``[feature]``, tokens with a code above 0.

    Example:
        >>> sums = FitSums.empty(width=2, features=3)
        >>> tokens = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
        >>> sums.update(tokens, torch.zeros(2, 2), np.array([2, 1, 0]))
        >>> sums.mean_norm, sums.l0, round(sums.dead, 3)
        (3.0, 1.5, 0.333)
    """

    fvu: FVU
    norm: float
    tokens_active: Int64[np.ndarray, " feature"]

    @classmethod
    def empty(cls, width: int, features: int) -> FitSums:
        """The sums over no tokens."""
        return cls(FVU(width), 0.0, np.zeros(features, np.int64))

    @property
    def mean_norm(self) -> float:
        """Mean norm of a token; NaN before any was seen."""
        return self.norm / self.fvu.tokens if self.fvu.tokens else float("nan")

    @property
    def l0(self) -> float:
        """Codes above 0 per token; NaN before any was seen."""
        return float(self.tokens_active.sum() / self.fvu.tokens) if self.fvu.tokens else float("nan")

    @property
    def dead(self) -> float:
        """Share of features that no token activates."""
        return float((self.tokens_active == 0).mean())

    def update(
        self,
        tokens: Float[Tensor, "token width"],
        reconstruction: Float[Tensor, "token width"],
        tokens_active: Int64[np.ndarray, " feature"],
    ) -> None:
        """Add tokens, their reconstructions, and how many of them each feature is active on."""
        self.fvu.update(tokens, reconstruction)
        self.norm += float(torch.linalg.vector_norm(tokens, dim=1, dtype=torch.float64).sum())
        self.tokens_active += tokens_active

    def merge(self, other: FitSums) -> None:
        """Add all that another has seen."""
        self.fvu.merge(other.fvu)
        self.norm += other.norm
        self.tokens_active += other.tokens_active

    def arrays(self) -> dict[str, np.ndarray]:
        """As named arrays, for a partial result's file."""
        return {"norm": np.array(self.norm), "tokens_active": self.tokens_active, **self.fvu.arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> FitSums:
        """What `arrays` gave."""
        return cls(FVU.from_arrays(arrays), float(arrays["norm"]), np.array(arrays["tokens_active"]))
