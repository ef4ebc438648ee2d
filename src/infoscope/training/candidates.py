"""The k largest codes of each token by way of rough pre-activations, where the CPU has matrix units for bfloat16.

The encoder's product is most of a training step, and in bfloat16 such a CPU has it five times as fast as in float32.
That product only says which features may be among the k largest of a token: how far it is from the exact one has a
bound, and what lies further below the k-th largest than the bound allows cannot be among them. Some two k features a
token are left, and their codes are computed in float32 from the weights themselves. So the codes are those of the whole
product, but for the order in which a sum's terms are added.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from infoscope.dictionaries.topk_kernel import Kept
from infoscope.training.candidates_kernel import round_rows, select_candidates

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
