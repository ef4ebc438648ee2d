"""The autoencoder while it is trained: on normalised tokens, one row a feature, decoder rows of length 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from infoscope.dictionaries.activations import Activation, TopK
from infoscope.training.topk import topk_reconstruction


@dataclass(frozen=True)
class Output:
    """What the autoencoder makes of a batch.

    Attributes:
        reconstruction: ``[token, width]``.
        active: how many tokens each feature is active on.
        l1: mean over tokens of the sum of codes.
    """

    reconstruction: Float[Tensor, "token width"]
    active: Int64[Tensor, " feature"]
    l1: Float[Tensor, ""]


class TrainingAutoencoder(nn.Module):
    """Weights in training.

    The encoder starts as the decoder's transpose, whose rows are random directions of length 1 (Gao et al. 2024,
    arXiv 2406.04093); both biases start at 0, which on centred tokens is the mean.

    Args:
        width: length of a token.
        features: number of features.
        activation: the activation function.
        seed: of the first directions.

    Example:
        >>> autoencoder = TrainingAutoencoder(width=8, features=16, activation=TopK(4), seed=0)
        >>> autoencoder(torch.randn(5, 8, generator=torch.Generator().manual_seed(0))).reconstruction.shape
        torch.Size([5, 8])
    """

    def __init__(self, width: int, features: int, activation: Activation, seed: int):
        super().__init__()
        directions = torch.randn(features, width, generator=torch.Generator().manual_seed(seed))
        directions = functional.normalize(directions, dim=1)
        self.encoder = nn.Parameter(directions.clone())
        self.encoder_bias = nn.Parameter(torch.zeros(features))
        self.decoder = nn.Parameter(directions)
        self.decoder_bias = nn.Parameter(torch.zeros(width))
        self.activation = activation

    def forward(self, tokens: Float[Tensor, "token width"]) -> Output:
        """Reconstruct normalised tokens."""
        features = len(self.encoder)
        if isinstance(self.activation, TopK) and tokens.device.type == "cpu":
            total, feature, value = topk_reconstruction(
                tokens, self.encoder, self.encoder_bias, self.decoder, self.activation.k
            )
            active = torch.bincount(feature[value > 0], minlength=features)
            return Output(total + self.decoder_bias, active, value.sum() / len(tokens))
        codes = self.activation(tokens @ self.encoder.T + self.encoder_bias)
        active = (codes > 0).sum(0)
        return Output(codes @ self.decoder + self.decoder_bias, active, codes.sum() / len(tokens))

    @torch.no_grad()
    def keep_gradient_on_sphere(self) -> None:
        """Take out of each decoder row's gradient the part along the row, which would only change its length."""
        gradient = self.decoder.grad
        if gradient is not None:
            gradient -= (gradient * self.decoder).sum(1, keepdim=True) * self.decoder

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Give every decoder row the length 1 again."""
        self.decoder.div_(self.decoder.norm(dim=1, keepdim=True))
