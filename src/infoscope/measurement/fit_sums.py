"""The sums behind the fit check, over the sampled images; merge in any order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from infoscope.dictionaries.fvu import FVU


@dataclass
class FitSums:
    """What the fit check is computed from.

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
        """Of no tokens."""
        return cls(FVU(width), 0.0, np.zeros(features, np.int64))

    @property
    def mean_norm(self) -> float:
        """Mean norm of a token; NaN before any was seen."""
        return self.norm / self.fvu.tokens if self.fvu.tokens else float("nan")

    @property
    def l0(self) -> float:
        """Codes above 0 a token; NaN before any was seen."""
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
        """Take in some tokens, what the SAE makes of them, and how many of them each feature is active on."""
        self.fvu.update(tokens, reconstruction)
        self.norm += float(torch.linalg.vector_norm(tokens, dim=1, dtype=torch.float64).sum())
        self.tokens_active += tokens_active

    def merge(self, other: FitSums) -> None:
        """Take in all that another has seen."""
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
