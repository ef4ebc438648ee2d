"""What can be folded into the four weights, folded in float64."""

from __future__ import annotations

import torch
from torch import Tensor


def fold_centring(W_enc: Tensor, b_enc: Tensor, b_dec: Tensor) -> Tensor:
    """The encoder's bias for tokens that are not centred: ``(x - b_dec) W_enc + b_enc = x W_enc + (this)``.

    Args:
        W_enc: ``[width, features]``.
        b_enc: ``[features]``.
        b_dec: what was subtracted from tokens, ``[width]``.

    Example:
        >>> fold_centring(torch.eye(2), torch.zeros(2), torch.tensor([1.0, 2.0])).tolist()
        [-1.0, -2.0]
    """
    if W_enc.ndim != 2 or b_dec.shape != W_enc.shape[:1] or b_enc.shape != W_enc.shape[1:]:
        return b_enc  # the SAE's own check of shapes names the wrong one
    return b_enc - b_dec @ W_enc


def fold_decoder_norm(W_enc: Tensor, b_enc: Tensor, W_dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes in units of reconstruction: each times its decoder row's norm, the row divided by it.

    Reconstructions stay the same. Which entries top-k keeps changes, so only where the trainer did the same. A row of
    zeros is left alone.

    Args:
        W_enc: ``[width, features]``.
        b_enc: ``[features]``.
        W_dec: ``[features, width]``.

    Example:
        >>> W_enc, b_enc, W_dec = fold_decoder_norm(torch.eye(2), torch.ones(2), 2 * torch.eye(2))
        >>> W_enc.tolist(), b_enc.tolist(), W_dec.tolist()
        ([[2.0, 0.0], [0.0, 2.0]], [2.0, 2.0], [[1.0, 0.0], [0.0, 1.0]])
    """
    if W_enc.ndim != 2 or W_dec.shape != (W_enc.shape[1], W_enc.shape[0]) or b_enc.shape != W_enc.shape[1:]:
        return W_enc, b_enc, W_dec
    norm = W_dec.norm(dim=1)
    norm = torch.where(norm > 0, norm, 1.0)
    return W_enc * norm, b_enc * norm, W_dec / norm[:, None]


def transposed(matrix: Tensor) -> Tensor:
    """``[a, b]`` as ``[b, a]``; anything else unchanged, for the check of shapes to name."""
    return matrix.T if matrix.ndim == 2 else matrix
