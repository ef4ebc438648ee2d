"""Pre-activations some tokens at a time, so that memory is bounded whatever the number of tokens or features."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError

# Pre-activations alive at once: on a CPU what a cache holds, elsewhere a small part of the device's memory.
CPU_BYTES = 8 * 2**20
DEVICE_BYTES = 256 * 2**20
# Tokens to a product on a CPU, about; measured, fewer make it slower (64: by half).
CPU_TOKENS = 512
# Features to a block come in multiples of this, which is more than a vector register holds.
STEP = 64

Blocks = Iterator[tuple[int, Float[Tensor, "token feature"]]]


def checked_tokens(sae: SparseAutoencoder, tokens: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
    """The tokens in float32 on the SAE's device, as its encoder takes them: with its ``token_norm``, if it has one.

    Raises:
        InfoscopeError: they have another width than the SAE, or hold NaN or infinity.
    """
    if tokens.shape[1] != sae.width:
        raise InfoscopeError(
            f"SAE {sae.name} takes tokens of width {sae.width}, not {tokens.shape[1]}: "
            "give the SAE trained on this model"
        )
    if not torch.isfinite(tokens).all():
        raise InfoscopeError(
            "the model's tokens hold NaN or infinity; check the checkpoint, or run the model in float32"
        )
    tokens = tokens.to(sae.W_enc.device, torch.float32)
    return tokens if sae.token_norm is None else sae.token_norm.apply(tokens)


def pre_activation_chunks(
    sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], whole: int = 1
) -> Iterator[tuple[int, int, Blocks]]:
    """Pre-activations, some tokens and some features at a time.

    On a CPU the tokens of a chunk are always as many, the last ones filled up with zeros: matrix products of a few rows
    are summed in another order, and a code must not depend on which tokens it is asked for with.

    Args:
        sae: the dictionary.
        tokens: as `checked_tokens` gives them.
        whole: chunks are multiples of this many tokens, such as an image's, so that few are filled up.

    Yields:
        The chunk's first token, how many there are, and blocks: their first feature, and pre-activations
        ``[token, feature]`` that the next block overwrites. The blocks of a chunk are to be used up before the next
        chunk.

    Example:
        >>> from infoscope.dictionaries.activations import ReLU
        >>> sae = SparseAutoencoder(torch.eye(3, 4), torch.ones(4), torch.eye(4, 3), torch.zeros(3), ReLU())
        >>> chunks = pre_activation_chunks(sae, torch.zeros(1, 3))
        >>> [(first, count, [(j, pre.tolist()) for j, pre in blocks]) for first, count, blocks in chunks]
        [(0, 1, [(0, [[1.0, 1.0, 1.0, 1.0]])])]
    """
    if tokens.device.type != "cpu":
        for first, pre in device_chunks(sae, tokens, whole):
            yield first, len(pre), iter([(0, pre)])
        return
    size = max(1, round(CPU_TOKENS / whole)) * whole
    columns = min(sae.features, max(CPU_BYTES // (4 * size) // STEP, 1) * STEP)
    memory = torch.empty(size * columns)
    for first in range(0, len(tokens), size):
        some = tokens[first : first + size]
        count = len(some)
        if count < size:
            some = torch.cat([some, some.new_zeros(size - count, sae.width)])
        yield first, count, _blocks(sae, some, count, columns, memory)


def _blocks(sae: SparseAutoencoder, tokens: Tensor, count: int, columns: int, memory: Tensor) -> Blocks:
    for first in range(0, sae.features, columns):
        block = slice(first, min(first + columns, sae.features))
        pre = memory[: len(tokens) * (block.stop - first)].view(len(tokens), -1)
        torch.mm(tokens, sae.W_enc[:, block], out=pre)
        pre += sae.b_enc[block]
        yield first, pre[:count]


def device_chunks(sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], whole: int = 1) -> Blocks:
    """First token and pre-activations of all features, in large chunks as a GPU takes them: multiples of ``whole``."""
    size = max(whole, DEVICE_BYTES // (4 * sae.features) // whole * whole)
    for first in range(0, len(tokens), size):
        yield first, sae.pre_activations(tokens[first : first + size])


def whole_rows(blocks: Blocks) -> Float[Tensor, "token feature"]:
    """All pre-activations of a chunk's tokens side by side, for a code that depends on those of other features.

    Example:
        >>> blocks = iter([(0, torch.ones(2, 2)), (2, torch.zeros(2, 1))])
        >>> whole_rows(blocks).tolist()
        [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    """
    # Copied: the memory of a block is the next one's.
    return torch.cat([pre.clone() for _, pre in blocks], dim=1)
