"""Codes that are used and dropped chunk by chunk, where most of them are above 0 or are on a GPU.

A sparse list would then be larger than the codes themselves. No array here is larger than a chunk of pre-activations.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from infoscope.dictionaries.codes_kernel import add_maximum, add_sum
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.sparse import (
    Blocks,
    SparseCodes,
    all_features,
    checked_tokens,
    device_chunks,
    encode_sparse,
    pre_activation_chunks,
)
from infoscope.options import Reduction

# Columns in a product of `encode_features`, which is padded to it, so that a code does not depend on which other
# features are asked for.
COLUMNS = 256


@torch.no_grad()
def reduce_dense(
    sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], patches: int, how: Reduction
) -> tuple[Float32[np.ndarray, "image feature"], Int64[np.ndarray, " feature"]]:
    """Each image's score by feature (method, section 3), and how many tokens each feature is active on.

    Args:
        sae: the dictionary.
        tokens: tokens of whole images, one after the other.
        patches: tokens per image.
        how: ``max``, ``mean`` or ``sum`` over an image's tokens; sums are float64.

    Raises:
        InfoscopeError: the tokens have another width, or hold NaN or infinity.

    Example:
        >>> from infoscope.dictionaries.activations import ReLU
        >>> sae = SparseAutoencoder(torch.eye(2), torch.zeros(2), torch.eye(2), torch.zeros(2), ReLU())
        >>> score, active = reduce_dense(sae, torch.tensor([[1.0, -1.0], [2.0, -2.0]]), patches=2, how="max")
        >>> score.tolist(), active.tolist()
        ([[2.0, 0.0]], [2, 0])
    """
    tokens = checked_tokens(sae, tokens)
    images = len(tokens) // patches
    if tokens.device.type != "cpu":
        return _reduce_on_device(sae, tokens, patches, how)
    reduced = np.zeros((images, sae.features), np.float32 if how == "max" else np.float64)
    active = np.zeros(sae.features, np.int32)
    # One reading of the codes gives both the score and the counts: they are too many to be read twice.
    add = add_maximum if how == "max" else add_sum
    for first, _, blocks in pre_activation_chunks(sae, tokens, multiple=patches):
        for offset, codes in _block_codes(sae, blocks):
            positive = codes.clamp(min=0) if sae.activation.signed else codes
            add(positive.numpy(), first, patches, offset, reduced, active)
    if how == "mean":
        reduced /= patches
    return reduced.astype(np.float32, copy=False), active.astype(np.int64)


def _reduce_on_device(
    sae: SparseAutoencoder, tokens: Tensor, patches: int, how: Reduction
) -> tuple[np.ndarray, np.ndarray]:
    scores = []
    active = torch.zeros(sae.features, dtype=torch.int64, device=tokens.device)
    for _, pre in device_chunks(sae, tokens, multiple=patches):
        codes = sae.activation(pre).clamp_(min=0)
        active += (codes > 0).sum(0)
        views = codes.view(-1, patches, sae.features)
        score = views.amax(1) if how == "max" else views.sum(1, dtype=torch.float64)
        scores.append((score / patches if how == "mean" else score).to(torch.float32))
    if not scores:
        return np.zeros((0, sae.features), np.float32), active.cpu().numpy()
    return torch.cat(scores).cpu().numpy(), active.cpu().numpy()


@torch.no_grad()
def reconstruct(
    sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], patches: int = 1
) -> Float[Tensor, "token width"]:
    """Reconstructions of tokens on the SAE's device, with the dense codes of one chunk at a time.

    Args:
        sae: the dictionary.
        tokens: ``[token, width]``.
        patches: tokens per image.

    Raises:
        InfoscopeError: as for `reduce_dense`.

    Example:
        >>> from infoscope.dictionaries.activations import ReLU
        >>> sae = SparseAutoencoder(torch.eye(2), torch.zeros(2), torch.eye(2), torch.zeros(2), ReLU())
        >>> reconstruct(sae, torch.tensor([[1.0, -1.0]])).tolist()
        [[1.0, 0.0]]
    """
    checked = checked_tokens(sae, tokens)
    total = sae.b_dec.expand(len(tokens), -1).clone()
    for first, count, blocks in pre_activation_chunks(sae, checked, multiple=patches):
        for offset, codes in _block_codes(sae, blocks):
            total[first : first + count].addmm_(codes, sae.W_dec[offset : offset + codes.shape[1]])
    return sae.token_norm.undo(total, tokens.to(total)) if sae.token_norm else total


@torch.no_grad()
def encode_features(
    sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], features: Int64[np.ndarray, " asked"]
) -> Float32[np.ndarray, "token asked"]:
    """Codes of some features; the others are not computed unless the activation function needs them.

    Args:
        sae: the dictionary.
        tokens: tokens of a few views, because the result is dense.
        features: which features.

    Returns:
        ``[token, asked]``, codes below 0 as 0.

    Raises:
        InfoscopeError: as for `reduce_dense`.

    Example:
        >>> from infoscope.dictionaries.activations import ReLU
        >>> sae = SparseAutoencoder(torch.eye(2), torch.zeros(2), torch.eye(2), torch.zeros(2), ReLU())
        >>> encode_features(sae, torch.tensor([[-1.0, 3.0], [2.0, 4.0]]), np.array([1])).tolist()
        [[3.0], [4.0]]
    """
    tokens = checked_tokens(sae, tokens)
    asked = torch.from_numpy(np.ascontiguousarray(features)).to(tokens.device)
    if not sae.activation.pointwise:
        if tokens.device.type == "cpu":
            return _columns(encode_sparse(sae, tokens), features, sae.features)
        parts = [sae.activation(pre)[:, asked].relu_().cpu() for _, pre in device_chunks(sae, tokens)]
        return torch.cat(parts).numpy() if parts else np.zeros((0, len(features)), np.float32)
    codes = np.empty((len(tokens), len(features)), np.float32)
    for first in range(0, len(features), COLUMNS):
        block = asked[first : first + COLUMNS]
        padded = torch.cat([block, block.new_zeros(COLUMNS - len(block))])
        pre = tokens @ sae.W_enc[:, padded]
        pre += sae.b_enc[padded]
        codes[:, first : first + len(block)] = sae.activation.at(padded)(pre)[:, : len(block)].cpu().numpy()
    return codes


def _block_codes(sae: SparseAutoencoder, blocks: Blocks) -> Iterator[tuple[int, Tensor]]:
    """First feature and codes of each block; one block of all features where a code depends on the others."""
    if sae.activation.pointwise:
        for first, pre in blocks:
            features = torch.arange(first, first + pre.shape[1], device=pre.device)
            yield first, sae.activation.at(features)(pre)
    else:
        yield 0, sae.activation(all_features(blocks)).contiguous()


def _columns(codes: SparseCodes, features: np.ndarray, of: int) -> np.ndarray:
    """Some features' codes, dense."""
    column_of = np.full(of, -1)
    column_of[features] = np.arange(len(features))
    dense = np.zeros((len(codes), len(features)), np.float32)
    token, column = np.repeat(np.arange(len(codes)), np.diff(codes.start)), column_of[codes.feature]
    asked = column >= 0
    dense[token[asked], column[asked]] = codes.value[asked]
    return dense
