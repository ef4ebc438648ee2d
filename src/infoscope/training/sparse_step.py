"""Encode, keep some codes, decode: one differentiable step on a CPU that never touches a code that is 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int16, Int32, Int64
from torch import Tensor

from infoscope.dictionaries.sparse import join_entries
from infoscope.dictionaries.topk_kernel import Kept, select_topk
from infoscope.training import sparse_step_kernel as kernel

# Tokens whose pre-activations are in memory at once, so that they stay in a CPU's cache.
CHUNK = 512

# Row pointers, features and codes above 0: token by token, features ascending within one.
Entries = tuple[Int64[np.ndarray, " token_plus_one"], Int32[np.ndarray, " entry"], Float32[np.ndarray, " entry"]]


@dataclass(frozen=True)
class PreActivations:
    """The pre-activations of some tokens, computed a chunk at a time when they are asked for.

    Attributes:
        tokens: ``[token, width]``.
        encoder: one row per feature.
        encoder_bias: one number per feature.
    """

    tokens: Float[Tensor, "token width"]
    encoder: Float[Tensor, "feature width"]
    encoder_bias: Float[Tensor, " feature"]

    def chunks(self) -> Iterator[Float32[np.ndarray, "chunk feature"]]:
        """Those of consecutive tokens, each overwriting the one before."""
        pre = torch.empty(min(CHUNK, len(self.tokens)), len(self.encoder))
        for chunk in self.tokens.split(CHUNK):  # type: ignore[no-untyped-call]
            yield torch.addmm(self.encoder_bias, chunk, self.encoder.T, out=pre[: len(chunk)]).numpy()


Select = Callable[[PreActivations], Entries]


def sparse_reconstruction(
    tokens: Float[Tensor, "token width"],
    encoder: Float[Tensor, "feature width"],
    encoder_bias: Float[Tensor, " feature"],
    decoder: Float[Tensor, "feature width"],
    select: Select,
    prefix: Int16[np.ndarray, " feature"] | None = None,
) -> tuple[Float[Tensor, "prefix token width"], Entries]:
    """Reconstruct tokens from the codes that are kept, on the CPU.

    Gradients flow to the three weights, not to the tokens, and not through the choice of codes.

    Args:
        tokens: float32 ``[token, width]``.
        encoder: one row per feature.
        encoder_bias: one number per feature.
        decoder: one row per feature; no bias is added.
        select: chooses which codes are kept; it may ask for the pre-activations more than once.
        prefix: the smallest prefix that holds each feature, counted from 0 without gaps; a single one by default.

    Returns:
        reconstructions: ``[prefix, token, width]``, one from the features of each prefix.
        codes: the codes that are kept.

    Example:
        >>> reconstructions, (start, feature, value) = sparse_reconstruction(
        ...     torch.tensor([[1.0, 2.0]]), torch.eye(2), torch.zeros(2), torch.eye(2), keep_topk(1))
        >>> reconstructions.tolist(), feature.tolist(), value.tolist()
        ([[[0.0, 2.0]]], [1], [2.0])
    """
    prefix = np.zeros(len(encoder), np.int16) if prefix is None else prefix
    step = _SparseReconstruction.apply
    # A list for the codes, because what autograd's function returns must be tensors.
    kept: list[Entries] = []
    total: Tensor = step(tokens, encoder, encoder_bias, decoder, select, prefix, kept)  # type: ignore[no-untyped-call]
    return total, kept[0]


def keep_topk(k: int, rough: bool | None = None) -> Select:
    """The k largest codes of each token.

    Args:
        k: how many.
        rough: whether a rough product first narrows down which features may be among them; by default, where that is
            faster.
    """
    rough = has_matrix_units() if rough is None else rough

    def select(pre: PreActivations) -> Entries:
        least = min(k, len(pre.encoder))
        largest = _largest_by_candidates(pre, least) if rough else (select_topk(chunk, least) for chunk in pre.chunks())
        return join_entries(_filled(*chunk) for chunk in largest)

    return select


def _largest_by_candidates(pre: PreActivations, k: int) -> Iterator[Kept]:
    candidates = Candidates(pre.encoder, pre.encoder_bias)
    for chunk in pre.tokens.split(CHUNK):  # type: ignore[no-untyped-call]
        yield candidates.select(chunk, k) or select_topk(torch.addmm(pre.encoder_bias, chunk, pre.encoder.T).numpy(), k)


def _filled(feature: np.ndarray, value: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many codes each token has, and its features and codes without the padding after them."""
    filled = np.arange(feature.shape[1]) < count[:, None]
    return count, feature[filled], value[filled]


class _SparseReconstruction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        encoder: Tensor,
        encoder_bias: Tensor,
        decoder: Tensor,
        select: Select,
        prefix: np.ndarray,
        kept: list[Entries],
    ) -> Tensor:
        start, feature, value = select(PreActivations(tokens, encoder.detach(), encoder_bias.detach()))
        kept.append((start, feature, value))
        total = tokens.new_empty(int(prefix.max()) + 1, *tokens.shape)
        kernel.decode_prefixes(start, feature, value, prefix, decoder.detach().numpy(), total.numpy())
        ctx.save_for_backward(tokens, decoder)
        ctx.codes = start, feature, value, prefix
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tokens, decoder = ctx.saved_tensors
        start, feature, value, prefix = ctx.codes
        # A feature takes part in the reconstructions of the smallest prefix that holds it and of all larger ones.
        summed = gradients[0] if len(gradients[0]) == 1 else gradients[0].flip(0).cumsum(0).flip(0)
        above = summed.contiguous().numpy()
        of_decoder, of_encoder = torch.empty_like(decoder), torch.empty_like(decoder)
        of_bias = decoder.new_empty(len(decoder))
        of_code = np.empty(len(value), np.float32)
        kernel.code_gradients(start, feature, prefix, decoder.detach().numpy(), above, of_code)
        results = of_decoder.numpy(), of_encoder.numpy(), of_bias.numpy()
        kernel.weight_gradients(start, feature, value, of_code, prefix, above, tokens.detach().numpy(), *results)
        return None, of_encoder, of_bias, of_decoder, None, None, None


# Terms of a sum are padded to a multiple of this, because matrix units take so many at a time.
_MULTIPLE = 32
# A bound on the rounding of sums in float32, relative to the lengths of both vectors: far above what a few thousand
# terms leave.
_SUMMING = 2.0**-12


def has_matrix_units() -> bool:
    """Whether products in bfloat16 are much faster than in float32 on this CPU."""
    ask = getattr(torch.cpu, "get_capabilities", None)  # since torch 2.11
    return ask is not None and bool(ask().get("amx_bf16"))


class Candidates:
    """An encoder in bfloat16, whose fast product narrows down which features may be among a token's k largest.

    Args:
        encoder: one row per feature, float32 ``[feature, width]``.
        encoder_bias: one number per feature.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> encoder, tokens = torch.randn(64, 8, generator=generator), torch.randn(3, 8, generator=generator)
        >>> feature, value, count = Candidates(encoder, torch.zeros(64)).select(tokens, 4)
        >>> feature.tolist() == (tokens @ encoder.T).topk(4).indices.sort().values.tolist()
        True
    """

    def __init__(self, encoder: Float[Tensor, "feature width"], encoder_bias: Float[Tensor, " feature"]):
        self._exact = encoder.numpy(), encoder_bias.numpy()
        # The bias is appended to the rows as one more term of the sum.
        self._rows, length, rounding = _rounded(*self._exact)
        self._furthest = float(rounding.max())
        self._longest = float(length.max()) + self._furthest
        self._rough: Tensor | None = None  # reused, because fresh memory costs as much time as the product

    def select(self, tokens: Float[Tensor, "token width"], k: int) -> Kept | None:
        """The k largest positive codes of each token, as `select_topk` gives them.

        Returns:
            None where the bound cannot decide for some token, such as one with fewer than k positive codes.
        """
        exact = tokens.numpy()
        count = len(exact)
        rounded, length, rounding = _rounded(exact, np.ones(count, np.float32))
        # | x e - x' e' | <= | x - x' | | e' | + | x | | e - e' |
        error = rounding * self._longest + length * (self._furthest + _SUMMING * self._longest)
        if self._rough is None or len(self._rough) < count:
            self._rough = rounded.new_empty(count, len(self._rows))
        rough = torch.mm(rounded, self._rows.T, out=self._rough[:count])
        largest = np.empty((count, k), np.int32), np.empty((count, k), np.float32), np.empty(count, np.int64)
        kernel.select_candidates(rough.view(torch.int16).numpy(), error, exact, *self._exact, k, *largest)
        return None if (largest[2] < 0).any() else largest


def _rounded(values: np.ndarray, last: np.ndarray) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Rows with one more number each in bfloat16, the rows' lengths, and the lengths of the rounding errors."""
    rows, width = values.shape
    bits = np.empty((rows, -(-(width + 1) // _MULTIPLE) * _MULTIPLE), np.uint16)
    length, rounding = np.empty((2, rows), np.float32)
    kernel.round_rows(values, last, bits, length, rounding)
    return torch.from_numpy(bits).view(torch.bfloat16), np.sqrt(length), np.sqrt(rounding)
