"""Centring and scaling tokens for training, and folding both into the weights that are saved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from infoscope.dictionaries.activations import Activation
from infoscope.dictionaries.fvu import FVU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.training.processes import Processes

# Tokens taken in at once; float64 copies of more than that would not stay in a cache.
_CHUNK = 8192


@dataclass(frozen=True)
class Normalisation:
    """z = scale (x - mean): the sample has mean 0 and a mean squared norm equal to the width.

    One scale serves all coordinates, so the loss weighs them as the raw tokens do.

    Attributes:
        mean: float64 ``[width]``.
        scale: greater than 0.
        mean_over_std: |mean| / |std| of the sample before (arXiv 2605.31518: the larger, the more features die when
            tokens are not centred).
        mean_token_norm: mean length of the sample's tokens before.

    Example:
        >>> normalisation = Normalisation.estimate(torch.tensor([[2.0], [6.0]]))
        >>> normalisation(torch.tensor([[2.0], [6.0], [8.0]])).tolist(), normalisation.mean_over_std
        ([[-1.0], [1.0], [2.0]], 2.0)
    """

    mean: Float64[np.ndarray, " width"]
    scale: float
    mean_over_std: float
    mean_token_norm: float = math.nan

    @classmethod
    def estimate(cls, tokens: Float[Tensor, "token width"], processes: Processes | None = None) -> Normalisation:
        """Mean and scale of a sample, in float64; of all processes' samples together.

        Raises:
            InfoscopeError: the tokens are all the same.
        """
        mine, sums = FVU(tokens.shape[1]), FVU(tokens.shape[1])
        norms = 0.0
        for first in range(0, len(tokens), _CHUNK):
            some = tokens[first : first + _CHUNK]
            mine.update(some, some)
            norms += float(some.norm(dim=1).double().sum())
        processes = processes or Processes()
        for arrays in processes.gather(mine.arrays()):
            sums.merge(FVU.from_arrays(arrays))
        norms = sum(processes.gather(norms))
        if not sums.variation > 0:
            raise InfoscopeError("all tokens of the sample are the same; give images that differ")
        scale = float(np.sqrt(tokens.shape[1] * sums.tokens / sums.variation))
        return cls(sums.mean, scale, sums.mean_over_std, norms / sums.tokens)

    def __call__(self, tokens: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
        """Centred and scaled tokens, float32."""
        mean = torch.from_numpy(self.mean).to(tokens.device, torch.float32)
        return (tokens - mean) * self.scale

    def fold(
        self,
        encoder: Float[Tensor, "feature width"],
        encoder_bias: Float[Tensor, " feature"],
        decoder: Float[Tensor, "feature width"],
        decoder_bias: Float[Tensor, " width"],
        activation: Activation,
    ) -> SparseAutoencoder:
        """The SAE on raw tokens that does what these weights do on normalised ones.

        Codes are divided by the scale, so they are lengths along the decoder's unit rows in the units of raw tokens.
        That is exact for activation functions that commute with a positive factor, once their thresholds have it too.
        """
        W_enc = encoder.detach().double().cpu().T
        mean = torch.from_numpy(self.mean)
        return SparseAutoencoder(
            W_enc=W_enc.float(),
            b_enc=(encoder_bias.detach().double().cpu() / self.scale - mean @ W_enc).float(),
            W_dec=decoder.detach().float().cpu(),
            b_dec=(mean + decoder_bias.detach().double().cpu() / self.scale).float(),
            activation=activation.scaled(1 / self.scale),
        )
