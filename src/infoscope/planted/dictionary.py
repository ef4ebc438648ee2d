"""Dictionaries for planted directions: exact, or with their directions turned away from the truth."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from infoscope.dictionaries.activations import JumpReLU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError


def read_directions(
    directions: Float[Tensor, "feature width"],
    threshold: Float[Tensor, " feature"],
    mean: Float[Tensor, " feature"] | None = None,
    name: str = "planted directions",
) -> SparseAutoencoder:
    """The SAE that reads directions.

    Args:
        directions: ``[feature, width]``, of length 1.
        threshold: what each feature's code must exceed.
        mean: what tokens without the features read in each direction; nothing by default.
        name: what it is called.

    Example:
        >>> sae = read_directions(torch.eye(2, 3), torch.full((2,), 0.5))
        >>> sae.encode(torch.tensor([[1.0, 0.25, 7.0]])).tolist()
        [[1.0, 0.0]]
    """
    bias = torch.zeros_like(threshold) if mean is None else -mean
    return SparseAutoencoder(
        directions.T.contiguous(),
        bias,
        directions,
        -bias @ directions,
        JumpReLU(threshold.detach()),
        name=name,
    )


def turned(sae: SparseAutoencoder, cosine: float, seed: int = 0) -> SparseAutoencoder:
    """The same dictionary with every direction turned at random, each by the same angle: the error of an SAE.

    Encoder and decoder turn together; biases and thresholds stay, the latter times the cosine, as the codes do.

    Args:
        sae: a dictionary with directions of length 1 and a threshold each.
        cosine: of the angle between the old and the new direction, above 0 to 1.
        seed: of where they turn.

    Raises:
        InfoscopeError: the cosine is out of range, or the dictionary has no thresholds.

    Example:
        >>> sae = read_directions(torch.eye(2, 64), torch.full((2,), 0.5))
        >>> [round(cosine, 4) for cosine in (turned(sae, 0.8).W_dec * sae.W_dec).sum(1).tolist()]
        [0.8, 0.8]
    """
    if not 0 < cosine <= 1:
        raise InfoscopeError(f"cosine {cosine} is out of range: above 0 to 1; choose one")
    if not isinstance(sae.activation, JumpReLU):
        raise InfoscopeError(f"SAE {sae.name} has no thresholds to turn with: take one of planted directions")
    away = torch.randn(sae.W_dec.shape, generator=torch.Generator().manual_seed(seed)).to(sae.W_dec.device)
    away -= (away * sae.W_dec).sum(1, keepdim=True) * sae.W_dec
    away /= away.norm(dim=1, keepdim=True)
    directions = cosine * sae.W_dec + (1 - cosine**2) ** 0.5 * away
    return SparseAutoencoder(
        directions.T.contiguous(),
        sae.b_enc,
        directions,
        sae.b_dec,
        sae.activation.scaled(cosine),
        name=f"{sae.name}, turned to a cosine of {cosine:g}",
    )
