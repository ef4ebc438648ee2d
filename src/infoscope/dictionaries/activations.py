"""Activation functions: from pre-activations to codes.

One class each, a frozen dataclass whose fields are its parameters: numbers, and tensors with an entry a feature. A new
one is added by writing the class: codes, scores and maps come from its call. So that SAEs with it can be saved too,
its class is given to `infoscope.register_activation`.
"""

from __future__ import annotations

from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from infoscope.errors import InfoscopeError


@runtime_checkable
class Activation(Protocol):
    """What an SAE asks of its activation function; each implementation is a frozen dataclass of its parameters.

    Example:
        >>> @dataclass(frozen=True)
        ... class NearMaximum:
        ...     name: ClassVar[str] = "near-maximum"
        ...     pointwise: ClassVar[bool] = False
        ...     signed: ClassVar[bool] = False
        ...     share: float = 0.5
        ...
        ...     def __call__(self, pre):
        ...         return torch.where(pre >= self.share * pre.amax(-1, keepdim=True), torch.relu(pre), 0.0)
        ...
        ...     def at(self, features):
        ...         raise ValueError("a code depends on all features")
        ...
        ...     def scaled(self, factor):
        ...         return self
        >>> isinstance(NearMaximum(), Activation)
        True
        >>> NearMaximum()(torch.tensor([1.0, 4.0, 3.0])).tolist()
        [0.0, 4.0, 3.0]
    """

    name: ClassVar[str]
    pointwise: ClassVar[bool]
    """Whether a feature's code needs its own pre-activation alone."""

    @property
    def signed(self) -> bool:
        """Whether a code may be below 0; scores and maps take it as 0, reconstructions as it is."""
        ...

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense; differentiable."""
        ...

    def at(self, features: Int64[Tensor, " asked"]) -> Activation:
        """Where it is pointwise: the same function for the pre-activations of some features alone."""
        ...

    def scaled(self, factor: float) -> Activation:
        """The function that gives ``factor`` times these codes for ``factor`` times the pre-activations."""
        ...


@dataclass(frozen=True)
class ReLU:
    """Every positive pre-activation is a code.

    Example:
        >>> ReLU()(torch.tensor([1.5, -2.0, 0.5])).tolist()
        [1.5, 0.0, 0.5]
        >>> str(ReLU())
        'relu'
    """

    name: ClassVar[str] = "relu"
    pointwise: ClassVar[bool] = True
    signed: ClassVar[bool] = False

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense."""
        return torch.relu(pre)

    def at(self, features: Int64[Tensor, " asked"]) -> Activation:
        """Itself: it is the same for every feature."""
        return self

    def scaled(self, factor: float) -> Activation:
        """Itself: it commutes with a factor."""
        return self

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class TopK:
    """The k largest pre-activations of a token, then ReLU unless asked otherwise (Gao et al. 2024, arXiv 2406.04093).

    Of equal pre-activations the lower features are kept, so that codes never depend on a library's order.

    Attributes:
        k: how many to keep; with more than there are features all are kept.
        relu: whether those below 0 become 0; some projects keep them.

    Raises:
        InfoscopeError: k is below 1.

    Example:
        >>> TopK(2)(torch.tensor([1.0, 3.0, 1.0, 2.0])).tolist(), TopK(3)(torch.tensor([1.0, -3.0, -1.0])).tolist()
        ([0.0, 3.0, 0.0, 2.0], [1.0, 0.0, 0.0])
        >>> str(TopK(32))
        'topk(32)'
    """

    name: ClassVar[str] = "topk"
    pointwise: ClassVar[bool] = False
    k: int
    relu: bool = True

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InfoscopeError(f"TopK needs k of at least 1, not {self.k}")

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense."""
        k = min(self.k, pre.shape[-1])
        least = pre.topk(k).values[..., -1:]
        above, tied = pre > least, pre == least
        room = k - above.sum(-1, keepdim=True)
        kept = above | (tied & (tied.cumsum(-1, dtype=torch.int32) <= room))
        return torch.where(kept, torch.relu(pre) if self.relu else pre, 0.0)

    @property
    def signed(self) -> bool:
        """Whether negative entries are kept."""
        return not self.relu

    def at(self, features: Int64[Tensor, " asked"]) -> Activation:
        """Never asked for: which codes are kept depends on all features.

        Raises:
            ValueError: always.
        """
        raise ValueError("the largest k of a token are among all its features")

    def scaled(self, factor: float) -> Activation:
        """Itself: it commutes with a factor."""
        return self

    def __str__(self) -> str:
        return f"{self.name}({self.k})" if self.relu else f"{self.name}({self.k}), signed"


@dataclass(frozen=True, eq=False)
class JumpReLU:
    """Pre-activations above a threshold are codes, unchanged (Rajamanoharan et al. 2024, arXiv 2407.14435).

    BatchTopK encodes so too, with one threshold for all features that was learned in training (Bussmann et al. 2024,
    arXiv 2412.06410, section 3).

    Attributes:
        threshold: ``[feature]``; below 0 it acts as 0.

    Example:
        >>> JumpReLU(torch.tensor([1.0, 1.0, -1.0]))(torch.tensor([1.5, 0.5, -0.5])).tolist()
        [1.5, 0.0, 0.0]
    """

    name: ClassVar[str] = "jumprelu"
    pointwise: ClassVar[bool] = True
    signed: ClassVar[bool] = False
    threshold: Tensor

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense."""
        return torch.where(pre > self.threshold, torch.relu(pre), 0.0)

    def at(self, features: Int64[Tensor, " asked"]) -> Activation:
        """With their thresholds."""
        return JumpReLU(self.threshold[features])

    def scaled(self, factor: float) -> Activation:
        """With what is in units of codes."""
        return JumpReLU(factor * self.threshold)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Gated:
    """A pre-activation above 0 opens the gate; the code is an affine function of it, cut at 0.

    Rajamanoharan et al. 2024, arXiv 2404.16014, section 3.2, where gate and magnitude share the encoder.

    Attributes:
        slope: ``[feature]``, greater than 0; exp(r_mag) of the paper.
        offset: ``[feature]``; b_mag - exp(r_mag) b_gate, since pre-activations hold the gate's bias.

    Example:
        >>> gated = Gated(slope=torch.full((3,), 2.0), offset=torch.tensor([1.0, -4.0, 9.0]))
        >>> gated(torch.tensor([1.5, 1.5, -1.0])).tolist()
        [4.0, 0.0, 0.0]
    """

    name: ClassVar[str] = "gated"
    pointwise: ClassVar[bool] = True
    signed: ClassVar[bool] = False
    slope: Tensor
    offset: Tensor

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense."""
        return torch.where(pre > 0, torch.relu(self.slope * pre + self.offset), 0.0)

    def at(self, features: Int64[Tensor, " asked"]) -> Activation:
        """With their slopes and offsets."""
        return Gated(self.slope[features], self.offset[features])

    def scaled(self, factor: float) -> Activation:
        """With what is in units of codes."""
        return Gated(self.slope, factor * self.offset)

    def __str__(self) -> str:
        return self.name
