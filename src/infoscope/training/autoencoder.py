"""An autoencoder in training, on normalised tokens, and what training minimises."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from infoscope.dictionaries.activations import Activation, TopK
from infoscope.dictionaries.fvu import FVU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.training.config import TrainConfig
from infoscope.training.processes import Processes

# Tokens summed at a time: float64 copies of more would not stay in a CPU's cache.
_CHUNK = 8192


@dataclass(frozen=True)
class Normalisation:
    """z = scale (x - mean): the sample has mean 0 and a mean squared norm equal to the width.

    One scale serves all coordinates, so the loss weighs them as the raw tokens do.

    Attributes:
        mean: float64 ``[width]``.
        scale: greater than 0.
        mean_over_std: |mean| / |std| of the raw sample (arXiv 2605.31518: the larger it is, the more features die when
            tokens are not centred).
        mean_token_norm: mean length of the raw sample's tokens.

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
        """Mean and scale of a sample, or of all processes' samples together, in float64.

        Raises:
            InfoscopeError: the tokens are all the same.
        """
        processes = processes or Processes()
        own = FVU(tokens.shape[1])
        norms = 0.0
        for chunk in tokens.split(_CHUNK):  # type: ignore[no-untyped-call]
            own.update(chunk, chunk)
            norms += float(chunk.norm(dim=1).double().sum())
        sums = processes.merge(own)
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
        """The SAE that does on raw tokens what these weights do on normalised ones.

        Codes are divided by the scale, so they are lengths along the decoder's unit rows, in the units of raw tokens.
        This is exact for activation functions that commute with a positive factor once their thresholds are scaled too.
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


@dataclass(frozen=True)
class Output:
    """What the autoencoder computes from a batch.

    Attributes:
        reconstruction: ``[token, width]``.
        active: how many tokens each feature is active on.
        loss: what is minimised, without AuxK.
    """

    reconstruction: Float[Tensor, "token width"]
    active: Int64[Tensor, " feature"]
    loss: Float[Tensor, ""]


class TrainingAutoencoder(nn.Module, ABC):
    """Weights in training.

    The encoder starts as the decoder's transpose (Gao et al. 2024, arXiv 2406.04093).

    Args:
        directions: where decoder rows start, ``[feature, width]``, of length 1.
        bias: where the decoder's bias starts, ``[width]``; 0 is the mean of the normalised tokens.
        config: the options, of which each variant takes its own.
        processes: those that train it together.
    """

    unit_rows: ClassVar[bool] = True
    """Whether every decoder row is held at length 1."""
    revives: ClassVar[bool] = False
    """Whether dead features get the AuxK loss."""

    def __init__(
        self,
        directions: Float[Tensor, "feature width"],
        bias: Float[Tensor, " width"],
        config: TrainConfig,
        processes: Processes,
    ):
        super().__init__()
        self.config = config
        self.encoder = nn.Parameter(directions.clone())
        self.encoder_bias = nn.Parameter(torch.zeros(len(directions)))
        self.decoder = nn.Parameter(directions.clone())
        self.decoder_bias = nn.Parameter(bias.clone())
        self.processes = processes

    @abstractmethod
    def forward(self, tokens: Float[Tensor, "token width"], rise: float) -> Output:
        """Reconstruct normalised tokens and compute the loss.

        Args:
            tokens: ``[token, width]``.
            rise: share of their full weight that penalties have, 0 to 1.
        """

    @abstractmethod
    def activation(self) -> Activation:
        """The activation function of the saved SAE, on normalised tokens."""

    def prepare(self, window: Float[Tensor, "token width"]) -> None:
        """Set at the start what depends on the tokens, given some of those to come."""

    def pre_activations(self, tokens: Float[Tensor, "token width"]) -> Float[Tensor, "token feature"]:
        """Dense pre-activations.

        The decoder's bias is not subtracted from tokens first: on centred tokens the encoder's own bias does the same.
        """
        return torch.addmm(self.encoder_bias, tokens, self.encoder.T)

    def fold(self, normalisation: Normalisation) -> SparseAutoencoder:
        """The SAE on raw tokens, with decoder rows of length 1."""
        if self.unit_rows:
            length = torch.ones(len(self.decoder), device=self.decoder.device)
        else:
            length = self.decoder.detach().norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        return normalisation.fold(
            self.encoder.detach() * length[:, None],
            self.encoder_bias.detach() * length,
            self.decoder.detach() / length[:, None],
            self.decoder_bias.detach(),
            self.activation(),
        )

    @torch.no_grad()
    def keep_gradient_on_sphere(self) -> None:
        """Remove from each decoder row's gradient the part along the row, which would only change its length."""
        gradient = self.decoder.grad
        if gradient is not None and self.unit_rows:
            along = torch.linalg.vecdot(gradient, self.decoder)
            gradient.addcmul_(along[:, None], self.decoder, value=-1)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Bring every decoder row back to length 1."""
        if self.unit_rows:
            self.decoder.div_(self.decoder.norm(dim=1, keepdim=True))


def reconstruction_loss(
    tokens: Float[Tensor, "token width"], reconstruction: Float[Tensor, "token width"]
) -> Float[Tensor, ""]:
    """Mean squared error; on normalised tokens, whose variance per coordinate is 1, an estimate of the FVU."""
    return (tokens - reconstruction).square().mean()


def auxk_loss(
    autoencoder: TrainingAutoencoder,
    tokens: Float[Tensor, "token width"],
    reconstruction: Float[Tensor, "token width"],
    dead: Bool[Tensor, " feature"],
    k: int,
) -> Float[Tensor, ""]:
    """Share of the live features' squared error that the dead features leave unexplained.

    The k strongest dead features of each token reconstruct the residual. The residual is a fixed target, so this loss
    moves the dead features only. It already lacks the decoder bias, which is therefore not added again (Gao et al.
    2024, arXiv 2406.04093, section A.2).

    Args:
        autoencoder: its dead features' weights get the gradient.
        tokens: normalised tokens.
        reconstruction: the autoencoder's reconstructions of them.
        dead: which features are dead; at least one.
        k: how many of them a token may use.
    """
    residual = (tokens - reconstruction).detach()
    index = dead.nonzero()[:, 0]
    pre = torch.addmm(autoencoder.encoder_bias[index], tokens, autoencoder.encoder[index].T)
    explained = TopK(k)(pre) @ autoencoder.decoder[index]
    # Over all processes' tokens, because gradients are averaged over the processes too.
    unexplained = residual.square().sum()
    autoencoder.processes.average([unexplained])
    return (residual - explained).square().sum() / unexplained.clamp_min(torch.finfo(torch.float32).tiny)
