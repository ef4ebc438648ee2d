"""Encode, keep some codes, decode: one differentiable step that never touches a code that is 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int16, Int32, Int64
from torch import Tensor

from infoscope.dictionaries.topk_kernel import Kept, select_topk
from infoscope.training.candidates_kernel import round_rows, select_candidates
from infoscope.training.gradient_kernel import code_gradients, decode_groups, weight_gradients

# Terms of a sum are padded to a multiple of this, as matrix units take them.
_MULTIPLE = 32
# Rounding of sums in float32, relative to the lengths of both vectors: far above what a few thousand terms leave.
_SUMMING = 2.0**-12


def has_matrix_units() -> bool:
    """Whether products in bfloat16 are much faster than in float32 on this CPU."""
    ask = getattr(torch.cpu, "get_capabilities", None)  # since torch 2.11
    return ask is not None and bool(ask().get("amx_bf16"))


class Candidates:
    """An encoder in bfloat16, to select from.

    Args:
        encoder: a row a feature, float32 ``[feature, width]``.
        encoder_bias: one number a feature.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> encoder, tokens = torch.randn(64, 8, generator=generator), torch.randn(3, 8, generator=generator)
        >>> feature, value, count = Candidates(encoder, torch.zeros(64)).select(tokens, 4)
        >>> feature.tolist() == (tokens @ encoder.T).topk(4).indices.sort().values.tolist()
        True
    """

    def __init__(self, encoder: Float[Tensor, "feature width"], encoder_bias: Float[Tensor, " feature"]):
        self._exact = encoder.numpy(), encoder_bias.numpy()
        # The bias is one more term of the sum.
        self._rows, length, rounding = _rounded(*self._exact)
        self._furthest = float(rounding.max())
        self._longest = float(length.max()) + self._furthest
        self._rough: Tensor | None = None  # overwritten, since fresh memory costs as much as the product

    def select(self, tokens: Float[Tensor, "token width"], k: int) -> Kept | None:
        """The k largest positive codes of each token, as `select_topk` gives them.

        Returns:
            None where the bound decides nothing for some token, such as one with fewer than k positive codes.
        """
        exact = tokens.numpy()
        count = len(exact)
        rounded, length, rounding = _rounded(exact, np.ones(count, np.float32))
        # | x e - x' e' | <= | x - x' | | e' | + | x | | e - e' |
        error = rounding * self._longest + length * (self._furthest + _SUMMING * self._longest)
        if self._rough is None or len(self._rough) < count:
            self._rough = rounded.new_empty(count, len(self._rows))
        rough = torch.mm(rounded, self._rows.T, out=self._rough[:count])
        kept = np.empty((count, k), np.int32), np.empty((count, k), np.float32), np.empty(count, np.int64)
        select_candidates(rough.view(torch.int16).numpy(), error, exact, *self._exact, k, *kept)
        return None if (kept[2] < 0).any() else kept


def _rounded(values: np.ndarray, last: np.ndarray) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Rows with one more number each in bfloat16, their lengths, and those of what rounding takes away."""
    rows, width = values.shape
    bits = np.empty((rows, -(-(width + 1) // _MULTIPLE) * _MULTIPLE), np.uint16)
    length, rounding = np.empty((2, rows), np.float32)
    round_rows(values, last, bits, length, rounding)
    return torch.from_numpy(bits).view(torch.bfloat16), np.sqrt(length), np.sqrt(rounding)


# Tokens whose pre-activations are alive at once, so that they stay in a CPU's cache.
CHUNK = 512

# Row pointers, features and codes above 0: token by token, features ascending within one.
Entries = tuple[Int64[np.ndarray, " token_plus_one"], Int32[np.ndarray, " entry"], Float32[np.ndarray, " entry"]]


@dataclass(frozen=True)
class PreActivations:
    """Those of some tokens, computed where they are asked for.

    Attributes:
        tokens: ``[token, width]``.
        encoder: a row a feature.
        encoder_bias: one number a feature.
    """

    tokens: Float[Tensor, "token width"]
    encoder: Float[Tensor, "feature width"]
    encoder_bias: Float[Tensor, " feature"]

    def parts(self) -> Iterator[Float[Tensor, "part width"]]:
        """The tokens, some at a time."""
        for first in range(0, len(self.tokens), CHUNK):
            yield self.tokens[first : first + CHUNK]

    def of(self, part: Float[Tensor, "part width"]) -> Float32[np.ndarray, "part feature"]:
        """Those of some of the tokens."""
        return torch.addmm(self.encoder_bias, part, self.encoder.T).numpy()

    def chunks(self) -> Iterator[Float32[np.ndarray, "part feature"]]:
        """Those of consecutive tokens, each overwriting the one before."""
        pre = torch.empty(min(CHUNK, len(self.tokens)), len(self.encoder))
        for part in self.parts():
            yield torch.addmm(self.encoder_bias, part, self.encoder.T, out=pre[: len(part)]).numpy()


Select = Callable[[PreActivations], Entries]


def sparse_reconstruction(
    tokens: Float[Tensor, "token width"],
    encoder: Float[Tensor, "feature width"],
    encoder_bias: Float[Tensor, " feature"],
    decoder: Float[Tensor, "feature width"],
    select: Select,
    group: Int16[np.ndarray, " feature"] | None = None,
) -> tuple[Float[Tensor, "group token width"], Entries]:
    """Reconstruct tokens from the codes that are kept of them, on the CPU.

    Gradients flow to the three weights, not to the tokens, and not through the choice.

    Args:
        tokens: float32 ``[token, width]``.
        encoder: a row a feature.
        encoder_bias: one number a feature.
        decoder: a row a feature; no bias is added.
        select: which codes are kept; it may ask for the pre-activations, more than once.
        group: each feature's group, from 0 without gaps; all in one by default.

    Returns:
        reconstructions: ``[group, token, width]``, the g-th from the features of groups 0 to g.
        codes: the kept codes.

    Example:
        >>> reconstructions, (start, feature, value) = sparse_reconstruction(
        ...     torch.tensor([[1.0, 2.0]]), torch.eye(2), torch.zeros(2), torch.eye(2), keep_topk(1))
        >>> reconstructions.tolist(), feature.tolist(), value.tolist()
        ([[[0.0, 2.0]]], [1], [2.0])
    """
    group = np.zeros(len(encoder), np.int16) if group is None else group
    step = _SparseReconstruction.apply
    kept: list[Entries] = []
    total: Tensor = step(tokens, encoder, encoder_bias, decoder, select, group, kept)  # type: ignore[no-untyped-call]
    return total, kept[0]


def keep_topk(k: int, rough: bool | None = None) -> Select:
    """The k largest codes of each token.

    Args:
        k: how many.
        rough: whether a rough product says first which features may be among them; by default where that is faster.
    """
    rough = has_matrix_units() if rough is None else rough

    def select(pre: PreActivations) -> Entries:
        least = min(k, len(pre.encoder))
        kept = _kept_of_candidates(pre, least) if rough else (select_topk(chunk, least) for chunk in pre.chunks())
        counts, features, values = [], [], []
        for feature, value, count in kept:
            filled = np.arange(feature.shape[1]) < count[:, None]
            counts.append(count)
            features.append(feature[filled])
            values.append(value[filled])
        start = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
        return start, np.concatenate(features), np.concatenate(values)

    return select


def _kept_of_candidates(pre: PreActivations, k: int) -> Iterator[Kept]:
    candidates = Candidates(pre.encoder, pre.encoder_bias)
    for part in pre.parts():
        yield candidates.select(part, k) or select_topk(pre.of(part), k)


class _SparseReconstruction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        encoder: Tensor,
        encoder_bias: Tensor,
        decoder: Tensor,
        select: Select,
        group: np.ndarray,
        kept: list[Entries],
    ) -> Tensor:
        start, feature, value = select(PreActivations(tokens, encoder.detach(), encoder_bias.detach()))
        kept.append((start, feature, value))
        total = tokens.new_empty(int(group.max()) + 1, *tokens.shape)
        decode_groups(start, feature, value, group, decoder.detach().numpy(), total.numpy())
        ctx.save_for_backward(tokens, decoder)
        ctx.codes = start, feature, value, group
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tokens, decoder = ctx.saved_tensors
        start, feature, value, group = ctx.codes
        # A feature is part of its own group's reconstruction and of all later ones.
        of_all = gradients[0] if len(gradients[0]) == 1 else gradients[0].flip(0).cumsum(0).flip(0)
        above = of_all.contiguous().numpy()
        of_decoder, of_encoder = torch.empty_like(decoder), torch.empty_like(decoder)
        of_bias = decoder.new_empty(len(decoder))
        of_code = np.empty(len(value), np.float32)
        code_gradients(start, feature, group, decoder.detach().numpy(), above, of_code)
        weight_gradients(
            start,
            feature,
            value,
            of_code,
            group,
            above,
            tokens.detach().numpy(),
            of_decoder.numpy(),
            of_encoder.numpy(),
            of_bias.numpy(),
        )
        return None, of_encoder, of_bias, of_decoder, None, None, None
