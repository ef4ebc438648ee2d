"""Activation functions of SAEs, and how they are saved.

A new one is a dataclass here and a place in `ACTIVATIONS`; one of somebody else's is given to `register_activation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from infoscope.errors import InfoscopeError, few, shown


@runtime_checkable
class Activation(Protocol):
    """What an SAE needs of its activation function; each implementation is a frozen dataclass of its parameters.

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
    """Whether a feature's code depends on its own pre-activation alone."""

    @property
    def signed(self) -> bool:
        """Whether a code may be below 0; scores and maps count it as 0, reconstructions use it as it is."""
        ...

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense; differentiable."""
        ...

    def at(self, features: Int64[Tensor, " asked"]) -> Activation:
        """The same function for the pre-activations of some features alone; only asked of pointwise ones."""
        ...

    def scaled(self, factor: float) -> Activation:
        """The function that gives ``factor`` times these codes for ``factor`` times the pre-activations."""
        ...


class _Function:
    """What most activation functions share."""

    name: ClassVar[str]
    pointwise: ClassVar[bool]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def signed(self) -> bool:
        """Whether a code may be below 0."""
        return False

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense."""
        raise NotImplementedError

    def at(self, features: Int64[Tensor, " asked"]) -> Activation:
        """The same function for some features, with their entries of each tensor.

        Raises:
            ValueError: a code depends on the other features too.
        """
        if not self.pointwise:
            raise ValueError(f"the codes of {self.name} depend on all features of a token")
        return map_tensors(self, lambda tensor: tensor[features])

    def scaled(self, factor: float) -> Activation:
        """Itself, since f(c x) = c f(x) for c > 0; a function for which this does not hold overrides it."""
        return self

    def __str__(self) -> str:
        # Runs are told apart by this text and by the weights, so numbers that are no weights must be in it.
        numbers = {field.name: getattr(self, field.name) for field in fields(self)}
        shown = [f"{name}={value}" for name, value in numbers.items() if not isinstance(value, Tensor)]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


@dataclass(frozen=True)
class ReLU(_Function):
    """Every positive pre-activation is a code.

    Example:
        >>> ReLU()(torch.tensor([1.5, -2.0, 0.5])).tolist()
        [1.5, 0.0, 0.5]
        >>> str(ReLU())
        'relu'
    """

    name: ClassVar[str] = "relu"
    pointwise: ClassVar[bool] = True

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense."""
        return torch.relu(pre)


@dataclass(frozen=True)
class TopK(_Function):
    """The k largest pre-activations of a token, then ReLU unless asked otherwise (Gao et al. 2024, arXiv 2406.04093).

    Of equal pre-activations those of lower features are kept, so that codes never depend on a library's order.

    Attributes:
        k: how many to keep; if there are fewer features, all are kept.
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
        # torch.topk breaks ties in any order; here the lower features fill what room the larger entries leave.
        room = k - above.sum(-1, keepdim=True)
        kept = above | (tied & (tied.cumsum(-1, dtype=torch.int32) <= room))
        return torch.where(kept, torch.relu(pre) if self.relu else pre, 0.0)

    @property
    def signed(self) -> bool:
        """Whether negative entries are kept."""
        return not self.relu

    def __str__(self) -> str:
        return f"{self.name}({self.k})" if self.relu else f"{self.name}({self.k}), signed"


@dataclass(frozen=True, eq=False)
class JumpReLU(_Function):
    """Pre-activations above a threshold are codes, unchanged (Rajamanoharan et al. 2024, arXiv 2407.14435).

    A BatchTopK encodes so too once it is trained, with one learned threshold for all features (Bussmann et al. 2024,
    arXiv 2412.06410, section 3).

    Attributes:
        threshold: ``[feature]``; below 0 it acts as 0.

    Example:
        >>> JumpReLU(torch.tensor([1.0, 1.0, -1.0]))(torch.tensor([1.5, 0.5, -0.5])).tolist()
        [1.5, 0.0, 0.0]
    """

    name: ClassVar[str] = "jumprelu"
    pointwise: ClassVar[bool] = True
    threshold: Tensor

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense."""
        # With ReLU a threshold below 0 lets no negative code through.
        return torch.where(pre > self.threshold, torch.relu(pre), 0.0)

    def scaled(self, factor: float) -> Activation:
        """The thresholds are scaled, being in units of codes."""
        return JumpReLU(factor * self.threshold)


@dataclass(frozen=True, eq=False)
class Gated(_Function):
    """A pre-activation above 0 opens the gate; the code is an affine function of it, cut off at 0.

    Rajamanoharan et al. 2024, arXiv 2404.16014, section 3.2, where gate and magnitude share the encoder.

    Attributes:
        slope: ``[feature]``, greater than 0; exp(r_mag) of the paper.
        offset: ``[feature]``; b_mag - exp(r_mag) b_gate, because pre-activations include the gate's bias.

    Example:
        >>> gated = Gated(slope=torch.full((3,), 2.0), offset=torch.tensor([1.0, -4.0, 9.0]))
        >>> gated(torch.tensor([1.5, 1.5, -1.0])).tolist()
        [4.0, 0.0, 0.0]
    """

    name: ClassVar[str] = "gated"
    pointwise: ClassVar[bool] = True
    slope: Tensor
    offset: Tensor

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense."""
        return torch.where(pre > 0, torch.relu(self.slope * pre + self.offset), 0.0)

    def scaled(self, factor: float) -> Activation:
        """The offsets are scaled, being in units of codes."""
        return Gated(self.slope, factor * self.offset)


ACTIVATIONS: dict[str, type[Any]] = {kind.name: kind for kind in (ReLU, TopK, JumpReLU, Gated)}

Kind = TypeVar("Kind", bound=type)

# The types of parameters that JSON can hold, with their names for messages; tensors are in the weights file.
_EXPECTED = {"int": "whole numbers", "bool": "true or false", "float": "finite numbers", "str": "strings"}


def register_activation(kind: Kind) -> Kind:
    """Register an activation function, so that SAEs with it can be saved and read.

    Args:
        kind: its class, a frozen dataclass that is an `Activation`; its fields are annotated as ``int``, ``float``,
            ``bool``, ``str``, or as a tensor with one entry per feature.

    Returns:
        The class itself, so that this serves as a decorator.

    Raises:
        InfoscopeError: it is not such a class, or its name is taken.

    Example:
        >>> register_activation(ReLU) is ReLU
        True
    """
    name = getattr(kind, "name", None)
    if not is_dataclass(kind) or not isinstance(name, str):
        raise InfoscopeError(f"{shown(kind)} is not an activation function: make it a frozen dataclass with a name")
    # Registering a class twice is fine, such as when a notebook's cell runs again with the same class.
    if ACTIVATIONS.setdefault(name, kind) is not kind:
        raise InfoscopeError(f"there is another activation function {name}; give this one a name of its own")
    return kind


def activation_to_json(activation: Activation) -> dict[str, Any]:
    """The name and the parameters that are not tensors, for ``sae.json``.

    Raises:
        InfoscopeError: the class is not registered, so that no saved SAE could be read again, or JSON cannot hold a
            parameter.

    Example:
        >>> activation_to_json(TopK(32))
        {'name': 'topk', 'k': 32, 'relu': True}
    """
    if ACTIVATIONS.get(activation.name) is not type(activation):
        raise InfoscopeError(
            f"activation function {activation.name} is not registered, so no saved SAE could be read again; give its "
            "class to infoscope.register_activation first"
        )
    numbers = {name: value for name, value in _parameters(activation).items() if not isinstance(value, Tensor)}
    for name, value in numbers.items():
        if type(value).__name__ not in _EXPECTED or (isinstance(value, float) and not math.isfinite(value)):
            raise InfoscopeError(
                f"activation function {activation.name} has {name} {shown(value)}, which an SAE file cannot hold; make "
                "it a finite number, true or false, a string or a tensor"
            )
    return {"name": activation.name, **numbers}


def activation_tensors(activation: Activation) -> dict[str, Tensor]:
    """The parameters that have one entry per feature, by name.

    Example:
        >>> import torch
        >>> activation_tensors(TopK(32)), list(activation_tensors(JumpReLU(torch.zeros(3))))
        ({}, ['threshold'])
    """
    return {name: value for name, value in _parameters(activation).items() if isinstance(value, Tensor)}


def map_tensors(activation: Activation, change: Callable[[Tensor], Tensor]) -> Activation:
    """The same function with each tensor changed, such as moved to another device."""
    changed = {name: change(value) for name, value in activation_tensors(activation).items()}
    return replace(activation, **changed) if changed else activation


def activation_from_json(value: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> Activation:
    """The activation function that `activation_to_json` and `activation_tensors` described.

    Raises:
        InfoscopeError: the name is unknown, or the parameters do not fit the function.

    Example:
        >>> activation_from_json({"name": "topk", "k": 32})
        TopK(k=32, relu=True)
        >>> activation_from_json({"name": "softmax"})
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: unknown activation function softmax; known are relu, topk, jumprelu, gated
    """
    parameters = dict(value)
    name = parameters.pop("name", None)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise InfoscopeError(
            f"unknown activation function {shown(name).strip(chr(39))}; known are {', '.join(ACTIVATIONS)}"
        )
    kind = ACTIVATIONS[name]
    known = {field.name: getattr(field.type, "__name__", str(field.type)) for field in fields(kind)}
    for key in sorted(parameters.keys() & known.keys()):
        if not _fits(parameters[key], known[key]):
            raise InfoscopeError(
                f"the parameters of activation function {name} are not {_EXPECTED.get(known[key], 'of its types')}: "
                f"{shown(key)[1:-1]} is {shown(parameters[key])}; correct them in the file that describes the SAE"
            )
    # Other tensors are left for the caller to refuse, who knows which file they are in.
    needed = {key: tensor for key, tensor in (tensors or {}).items() if key in known}
    try:
        activation: Activation = kind(**parameters, **needed)
    except TypeError:
        given = few([*parameters, *needed]) or "none"
        raise InfoscopeError(
            f"activation function {name} does not take these parameters: {given}"
            "; correct them in the file that describes the SAE"
        ) from None
    return activation


def _fits(value: Any, expected: str) -> bool:
    """Whether a field whose type has that name may have this value; a tensor never comes from JSON."""
    if expected == "float":
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value).__name__ == expected and expected in _EXPECTED


def _parameters(activation: Activation) -> dict[str, Any]:
    return {field.name: getattr(activation, field.name) for field in fields(activation)}
