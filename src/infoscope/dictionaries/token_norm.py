"""What some SAEs do to each token by itself before they encode it, and undo after they decode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from infoscope.errors import InfoscopeError, shown

NormKind = Literal["layer_norm", "unit_norm"]
KINDS: tuple[NormKind, ...] = get_args(NormKind)


@dataclass(frozen=True)
class TokenNorm:
    """z = (x - shift) / scale with a shift and a scale of each token's own, so that no weight can hold them.

    Attributes:
        kind: ``layer_norm``: shift by the token's mean, scale by its unbiased standard deviation plus ``eps``, which is
            left out again when it is undone, as SAELens and ViT-Prisma do. ``unit_norm``: no shift; to a norm of the
            root of the width.
        eps: added to the standard deviation.

    Example:
        >>> norm = TokenNorm("layer_norm")
        >>> shift, scale = norm.statistics(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> shift.tolist(), scale.tolist()
        ([[2.0]], [[1.0]])
    """

    kind: NormKind
    eps: float = 1e-5

    def statistics(self, tokens: Float[Tensor, "*token width"]) -> tuple[Tensor, Tensor]:
        """Shift and scale of each token, without ``eps``, ``[token, 1]``."""
        if self.kind == "layer_norm":
            return tokens.mean(-1, keepdim=True), tokens.std(-1, keepdim=True)
        scale = tokens.norm(dim=-1, keepdim=True) / tokens.shape[-1] ** 0.5
        return torch.zeros_like(scale), scale

    def apply(self, tokens: Float[Tensor, "*token width"]) -> Float[Tensor, "*token width"]:
        """The tokens as the encoder takes them."""
        shift, scale = self.statistics(tokens)
        return (tokens - shift) / (scale + self.eps if self.kind == "layer_norm" else scale)

    def undo(
        self, reconstruction: Float[Tensor, "*token width"], tokens: Float[Tensor, "*token width"]
    ) -> Float[Tensor, "*token width"]:
        """The decoder's output on the scale of the tokens it is of."""
        shift, scale = self.statistics(tokens)
        return reconstruction * scale + shift

    def to_json(self) -> dict[str, Any]:
        """For ``sae.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TokenNorm:
        """What `to_json` gave.

        Raises:
            InfoscopeError: it is something else.
        """
        eps = value.get("eps")
        for kind in KINDS:
            if value.get("kind") == kind and isinstance(eps, float) and 0 <= eps < math.inf and len(value) == 2:
                return cls(kind, eps)
        raise InfoscopeError(f"unknown token norm {shown(dict(value))}")
