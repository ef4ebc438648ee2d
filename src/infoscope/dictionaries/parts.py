"""What some of a token's codes contribute to its reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64
from torch import Tensor
from torch.nn import functional

from infoscope.dictionaries.parts_kernel import add_rows
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.sparse import checked_tokens, encode_sparse, pre_activation_chunks, whole_rows


@dataclass(frozen=True)
class Codes:
    """All codes other than 0 of some tokens, in compressed rows on the SAE's device; some may be below 0.

    Eight bytes a code: of a few tokens at a time where most codes are not 0.

    Attributes:
        start: row pointers, ``[token + 1]``, beginning with 0.
        feature: feature of each entry, ascending within a token.
        value: code of each entry.
    """

    start: Int64[Tensor, " token_plus_one"]
    feature: Int32[Tensor, " entry"]
    value: Float32[Tensor, " entry"]

    def __len__(self) -> int:
        return len(self.start) - 1


@torch.no_grad()
def encode_parts(sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], whole: int = 1) -> Codes:
    """All codes of some tokens.

    Args:
        sae: the dictionary.
        tokens: as the model gives them.
        whole: products are of multiples of this many tokens, such as an image's.

    Raises:
        InfoscopeError: the tokens have another width, or hold NaN or infinity.
    """
    if sae.W_enc.device.type == "cpu" and not sae.activation.signed:
        codes = encode_sparse(sae, tokens, whole)
        return Codes(*(torch.from_numpy(part) for part in (codes.start, codes.feature, codes.value)))
    device = sae.W_enc.device
    counts = [torch.zeros(1, dtype=torch.int64, device=device)]
    features, values = [counts[0][:0].to(torch.int32)], [torch.zeros(0, device=device)]
    for _, _, blocks in pre_activation_chunks(sae, checked_tokens(sae, tokens), whole):
        dense = sae.activation(whole_rows(blocks))
        active = dense != 0
        counts.append(active.sum(1))
        features.append(active.nonzero()[:, 1].to(torch.int32))
        values.append(dense[active])
    return Codes(torch.cat(counts).cumsum(0), torch.cat(features), torch.cat(values))


@torch.no_grad()
def decode_part(
    sae: SparseAutoencoder, codes: Codes, member: Bool[Tensor, " feature"]
) -> Float32[Tensor, "token width"]:
    """Sum of code times decoder row over some features: no ``b_dec``, and a ``token_norm`` not undone.

    Args:
        sae: the dictionary.
        codes: of the tokens.
        member: which features, on the SAE's device.

    Example:
        >>> from infoscope.dictionaries.activations import ReLU
        >>> sae = SparseAutoencoder(torch.eye(2), torch.zeros(2), torch.eye(2), torch.ones(2), ReLU())
        >>> codes = encode_parts(sae, torch.tensor([[1.0, 2.0], [3.0, -4.0]]))
        >>> decode_part(sae, codes, torch.tensor([True, False])).tolist()
        [[1.0, 0.0], [3.0, 0.0]]
    """
    if sae.W_dec.device.type != "cpu":
        return _decode_on_device(sae, codes, member)
    total = torch.zeros(len(codes), sae.width)
    start, feature, value = codes.start.numpy(), codes.feature.numpy(), codes.value.numpy()
    add_rows(start, feature, value, member.numpy(), sae.W_dec.numpy(), total.numpy())
    return total


def _decode_on_device(sae: SparseAutoencoder, codes: Codes, member: Tensor) -> Tensor:
    # The other features are given no weight rather than left out, which would have to wait for their number.
    weight = torch.where(member.index_select(0, codes.feature), codes.value, 0.0)
    total: Tensor = functional.embedding_bag(
        codes.feature, sae.W_dec, codes.start[:-1], mode="sum", per_sample_weights=weight
    )
    return total
