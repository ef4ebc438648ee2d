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
LEAST_TOKENS, MOST_TOKENS = 64, 512


def checked_tokens(sae: SparseAutoencoder, tokens: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
    """The tokens in float32 on the SAE's device.

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
    return tokens.to(sae.W_enc.device, torch.float32)


Chunks = Iterator[tuple[int, Float[Tensor, "token feature"]]]


def pre_activation_chunks(sae: SparseAutoencoder, tokens: Float[Tensor, "token width"]) -> Chunks:
    """Position of the first token and pre-activations of some tokens, in order; each is overwritten by the next.

    On a CPU it is always the same number of tokens, the last ones filled up with zeros: matrix products of a few rows
    are summed in another order, and a code must not depend on which tokens it is asked for with.

    Args:
        sae: the dictionary.
        tokens: as `checked_tokens` gives them.

    Example:
        >>> from infoscope.dictionaries.activations import ReLU
        >>> sae = SparseAutoencoder(torch.eye(3, 4), torch.ones(4), torch.eye(4, 3), torch.zeros(3), ReLU())
        >>> [(first, pre.tolist()) for first, pre in pre_activation_chunks(sae, torch.zeros(1, 3))]
        [(0, [[1.0, 1.0, 1.0, 1.0]])]
    """
    if tokens.device.type != "cpu":
        yield from device_chunks(sae, tokens)
        return
    size = min(max(CPU_BYTES // (4 * sae.features), LEAST_TOKENS), MOST_TOKENS)
    pre = torch.empty(size, sae.features)
    for first in range(0, len(tokens), size):
        some = tokens[first : first + size]
        full = some if len(some) == size else torch.cat([some, some.new_zeros(size - len(some), sae.width)])
        torch.mm(full, sae.W_enc, out=pre)
        pre += sae.b_enc
        yield first, pre[: len(some)]


def device_chunks(sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], whole: int = 1) -> Chunks:
    """The same in large chunks, as a GPU takes them: multiples of ``whole`` tokens, such as an image's."""
    size = max(whole, DEVICE_BYTES // (4 * sae.features) // whole * whole)
    for first in range(0, len(tokens), size):
        yield first, sae.pre_activations(tokens[first : first + size])
