"""How much some of a token's features contribute to its reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64
from torch import Tensor
from torch.nn import functional

from infoscope.dictionaries.codes_kernel import add_rows
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.sparse import all_features, checked_tokens, encode_sparse, pre_activation_chunks


@dataclass(frozen=True)
class Codes:
    """All codes other than 0 of some tokens, in compressed rows on the SAE's device; they may be below 0.

    A code takes eight bytes, so where most codes are not 0 this is only for a few tokens at a time.

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
def encode_parts(sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], multiple: int = 1) -> Codes:
    """All codes of some tokens.

    Args:
        sae: the dictionary.
        tokens: as the model gives them.
        multiple: tokens are encoded in multiples of this many, such as an image's.

    Raises:
        InfoscopeError: the tokens have another width, or hold NaN or infinity.
    """
    if sae.W_enc.device.type == "cpu" and not sae.activation.signed:
        codes = encode_sparse(sae, tokens, multiple)
        return Codes(*(torch.from_numpy(part) for part in (codes.start, codes.feature, codes.value)))
    device = sae.W_enc.device
    counts = [torch.zeros(1, dtype=torch.int64, device=device)]
    features, values = [counts[0][:0].to(torch.int32)], [torch.zeros(0, device=device)]
    for _, _, blocks in pre_activation_chunks(sae, checked_tokens(sae, tokens), multiple):
        dense = sae.activation(all_features(blocks))
        active = dense != 0
        counts.append(active.sum(1))
        features.append(active.nonzero()[:, 1].to(torch.int32))
        values.append(dense[active])
    return Codes(torch.cat(counts).cumsum(0), torch.cat(features), torch.cat(values))


@torch.no_grad()
def decode_part(
    sae: SparseAutoencoder, codes: Codes, member: Bool[Tensor, " feature"]
) -> Float32[Tensor, "token width"]:
    """Sum of code times decoder row over some features, without ``b_dec`` and without undoing a ``token_norm``.

    Args:
        sae: the dictionary.
        codes: the tokens' codes.
        member: which features are summed, on the SAE's device.

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
    # The other features get no weight. To leave them out, the GPU would have to report first how many there are.
    weight = torch.where(member.index_select(0, codes.feature), codes.value, 0.0)
    total: Tensor = functional.embedding_bag(
        codes.feature, sae.W_dec, codes.start[:-1], mode="sum", per_sample_weights=weight
    )
    return total
