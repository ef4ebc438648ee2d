"""What training minimises."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from infoscope.dictionaries.activations import TopK
from infoscope.training.autoencoder import TrainingAutoencoder


def reconstruction_loss(
    tokens: Float[Tensor, "token width"], reconstruction: Float[Tensor, "token width"]
) -> Float[Tensor, ""]:
    """Mean squared error. On normalised tokens, whose variance is 1 a coordinate, it is the FVU but for sampling."""
    return (tokens - reconstruction).square().mean()


def auxk_loss(
    autoencoder: TrainingAutoencoder,
    tokens: Float[Tensor, "token width"],
    reconstruction: Float[Tensor, "token width"],
    dead: Bool[Tensor, " feature"],
    k: int,
) -> Float[Tensor, ""]:
    """How badly the dead features explain what the live ones leave, over how much they leave.

    The k strongest dead features of each token reconstruct the residual. The residual is a fixed target, so this loss
    moves the dead features only; it already lacks the decoder bias, which is therefore not added again (Gao et al.
    2024, arXiv 2406.04093, section A.2).

    Args:
        autoencoder: its dead features' weights get the gradient.
        tokens: normalised tokens.
        reconstruction: what the autoencoder made of them.
        dead: which features are dead; at least one.
        k: how many of them a token may use.
    """
    residual = (tokens - reconstruction).detach()
    index = dead.nonzero()[:, 0]
    pre = torch.addmm(autoencoder.encoder_bias[index], tokens, autoencoder.encoder[index].T)
    explained = TopK(k)(pre) @ autoencoder.decoder[index]
    # Of all processes' tokens; their gradients are averaged.
    left = residual.square().sum()
    autoencoder.processes.average([left])
    return (residual - explained).square().sum() / left.clamp_min(torch.finfo(torch.float32).tiny)
