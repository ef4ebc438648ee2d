"""What each feature's removal takes out of a sample of tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Integer

from infoscope.dictionaries.codes_kernel import add_rows


@dataclass(frozen=True)
class RemovedCodes:
    """What each feature's removal takes out of the tokens of a sample, under one replacement.

    Without a set G of features, token t loses the vector

        ``v_t = sum of value_tj W_j over j in G  -  scale_t * sum of mean_j W_j over j in G``.

    The first sum has entries only where a code changes. The second is there only where codes become their means: those
    reach every token, and would make the sparse part dense.

    Attributes:
        start: row pointers, ``[token + 1]``, beginning with 0.
        feature: feature of each entry, ascending within a token.
        value: the code less what replaces it, on the token's scale.
        decoder: row j is the direction of feature j.
        scale: what each token's decoded codes are multiplied by.
        mean: the mean code of each feature where that replaces its codes, else 0.
    """

    start: Int64[np.ndarray, " token_plus_one"]
    feature: Int32[np.ndarray, " entry"]
    value: Float64[np.ndarray, " entry"]
    decoder: Float32[np.ndarray, "feature width"]
    scale: Float64[np.ndarray, " token"]
    mean: Float64[np.ndarray, " feature"]

    def __len__(self) -> int:
        return len(self.scale)

    def vectors(self, features: Integer[np.ndarray, " _"]) -> Float64[np.ndarray, "token width"]:
        """The vector that each token loses without some features."""
        total = np.zeros((len(self), self.decoder.shape[1]))
        add_rows(self.start, self.feature, self.value, self._member(features), self.decoder, total)
        if self.mean.any():
            total -= np.outer(self.scale, self.mean[features] @ self.decoder[features].astype(np.float64))
        return total

    def energy(self, features: Integer[np.ndarray, " _"]) -> float:
        """Mean squared length of these vectors: of the sum over the features, since lengths do not add up.

        Example:
            >>> token, ones = np.array([0, 2, 3]), np.ones(3)
            >>> decoder = np.float32([[1, 0], [-1, 1]])
            >>> removed = RemovedCodes(token, np.int32([0, 1, 0]), ones, decoder, np.ones(2), np.zeros(2))
            >>> removed.energy(np.array([0])), removed.energy(np.array([1])), removed.energy(np.array([0, 1]))
            (1.0, 1.0, 1.0)
        """
        vectors = self.vectors(features)
        return float(np.einsum("tw,tw->", vectors, vectors)) / len(self)

    def _member(self, features: Integer[np.ndarray, " _"]) -> Bool[np.ndarray, " feature"]:
        member = np.zeros(len(self.decoder), np.bool_)
        member[features] = True
        return member
