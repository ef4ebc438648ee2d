"""The autoencoder while it is trained: on normalised tokens, one row a feature; one subclass for each variant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from infoscope.dictionaries.activations import Activation
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.training.normalisation import Normalisation
from infoscope.training.processes import Processes


@dataclass(frozen=True)
class Output:
    """What the autoencoder makes of a batch.

    Attributes:
        reconstruction: ``[token, width]``.
        active: how many tokens each feature is active on.
        loss: what is minimised, but for AuxK.
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
        processes: those that train it together.
    """

    unit_rows: ClassVar[bool] = True
    """Whether decoder rows are kept at length 1."""
    revives: ClassVar[bool] = False
    """Whether dead features get the AuxK loss."""

    def __init__(self, directions: Float[Tensor, "feature width"], bias: Float[Tensor, " width"], processes: Processes):
        super().__init__()
        self.encoder = nn.Parameter(directions.clone())
        self.encoder_bias = nn.Parameter(torch.zeros(len(directions)))
        self.decoder = nn.Parameter(directions.clone())
        self.decoder_bias = nn.Parameter(bias.clone())
        self.processes = processes

    @abstractmethod
    def forward(self, tokens: Float[Tensor, "token width"], rise: float) -> Output:
        """Reconstruct normalised tokens, and say what that costs.

        Args:
            tokens: ``[token, width]``.
            rise: share of their full weight that penalties have, 0 to 1.
        """

    def look_at(self, window: Float[Tensor, "token width"]) -> None:
        """Take note, at the start, of some of the tokens that will come."""

    @abstractmethod
    def activation(self) -> Activation:
        """The activation function of the SAE that is saved, on normalised tokens."""

    def pre_activations(self, tokens: Float[Tensor, "token width"]) -> Float[Tensor, "token feature"]:
        """Dense, as the encoder gives them.

        The decoder's bias is subtracted from no token: on centred tokens the encoder's own bias does the same.
        """
        return torch.addmm(self.encoder_bias, tokens, self.encoder.T)

    def fold(self, normalisation: Normalisation) -> SparseAutoencoder:
        """The SAE on raw tokens, with decoder rows of length 1."""
        length = self.decoder.detach().norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        if self.unit_rows:
            length = torch.ones_like(length)
        return normalisation.fold(
            self.encoder.detach() * length[:, None],
            self.encoder_bias.detach() * length,
            self.decoder.detach() / length[:, None],
            self.decoder_bias.detach(),
            self.activation(),
        )

    @torch.no_grad()
    def keep_gradient_on_sphere(self) -> None:
        """Take out of each decoder row's gradient the part along the row, which would only change its length."""
        gradient = self.decoder.grad
        if gradient is not None and self.unit_rows:
            along = torch.linalg.vecdot(gradient, self.decoder)
            gradient.addcmul_(along[:, None], self.decoder, value=-1)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Give every decoder row the length 1 again."""
        if self.unit_rows:
            self.decoder.div_(self.decoder.norm(dim=1, keepdim=True))


def random_directions(width: int, features: int, seed: int) -> Float[Tensor, "feature width"]:
    """Random rows of length 1.

    Example:
        >>> random_directions(width=8, features=3, seed=0).norm(dim=1).round(decimals=4).tolist()
        [1.0, 1.0, 1.0]
    """
    directions = torch.randn(features, width, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(directions, dim=1)
