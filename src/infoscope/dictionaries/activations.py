"""Activation functions: from pre-activations to codes that are 0 or above.

One class each, a frozen dataclass whose fields are its parameters, so that its JSON form, its equality and its name in
tables need no further code. A new one is added by writing the class and naming it in `ACTIVATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, asdict, dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor

from infoscope.dictionaries.sparse_kernel import positive_entries
from infoscope.dictionaries.topk_kernel import select_topk
from infoscope.errors import InfoscopeError

Blocks = Iterable[tuple[int, Float32[np.ndarray, "token _"]]]
Entries = tuple[Int64[np.ndarray, " token"], Int32[np.ndarray, " entry"], Float32[np.ndarray, " entry"]]


@runtime_checkable
class Activation(Protocol):
    """What an SAE asks of its activation function; each implementation is a frozen dataclass of its parameters."""

    name: ClassVar[str]
    pointwise: ClassVar[bool]
    """Whether a feature's code needs its own pre-activation alone."""
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense; differentiable."""
        ...

    def at(self, features: Int64[Tensor, " asked"]) -> Activation:
        """Where it is pointwise: the same function for the pre-activations of some features alone."""
        ...

    def positives(self, blocks: Blocks) -> Entries:
        """The codes above 0 of some tokens, sparse and on the CPU.

        Args:
            blocks: pre-activations ``[token, feature]``, block by block of features, each with its first feature; one
                may overwrite the one before.

        Returns:
            How many codes each token has, then their features and values: token by token, features ascending within
            one.
        """
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

    def __call__(self, pre: Float[Tensor, "*token feature"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense."""
        return torch.relu(pre)

    def at(self, features: Int64[Tensor, " asked"]) -> Activation:
        """Itself: it is the same for every feature."""
        return self

    def positives(self, blocks: Blocks) -> Entries:
        """Codes, sparse: counts, features, values."""
        parts = [(first, *positive_entries(pre)) for first, pre in blocks]
        count = np.sum([part[1] for part in parts], axis=0)
        token = np.concatenate([np.repeat(np.arange(len(count)), part[1]) for part in parts])
        order = np.argsort(token, kind="stable")
        feature = np.concatenate([first + feature for first, _, feature, _ in parts])
        return count, feature[order].astype(np.int32), np.concatenate([part[3] for part in parts])[order]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class TopK:
    """The k largest pre-activations of a token, then ReLU (Gao et al. 2024, arXiv 2406.04093).

    Of equal pre-activations the lower features are kept, so that codes never depend on a library's order.

    Attributes:
        k: how many to keep; with more than there are features all are kept.

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
        return torch.where(kept, torch.relu(pre), 0.0)

    def at(self, features: Int64[Tensor, " asked"]) -> Activation:
        """Never asked for: which codes are kept depends on all features.

        Raises:
            ValueError: always.
        """
        raise ValueError("the largest k of a token are among all its features")

    def positives(self, blocks: Blocks) -> Entries:
        """Codes, sparse: counts, features, values."""
        kept = None
        for first, pre in blocks:
            kept = select_topk(pre, self.k, first, kept)
        assert kept is not None  # there is no dictionary without features
        feature, value, count = kept
        filled = np.arange(self.k) < count[:, None]
        return count, feature[filled], value[filled]

    def __str__(self) -> str:
        return f"{self.name}({self.k})"


ACTIVATIONS: dict[str, Callable[..., Activation]] = {"relu": ReLU, "topk": TopK}


def activation_to_json(activation: Activation) -> dict[str, Any]:
    """Name and parameters, for ``sae.json``.

    Example:
        >>> activation_to_json(TopK(32))
        {'name': 'topk', 'k': 32}
    """
    return {"name": activation.name, **asdict(activation)}


def activation_from_json(value: Mapping[str, Any]) -> Activation:
    """The activation function that `activation_to_json` described.

    Raises:
        InfoscopeError: the name is unknown, or the parameters are not its own.

    Example:
        >>> activation_from_json({"name": "topk", "k": 32})
        TopK(k=32)
        >>> activation_from_json({"name": "softmax"})
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: unknown activation function softmax; known are relu, topk
    """
    parameters = dict(value)
    name = parameters.pop("name", None)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise InfoscopeError(f"unknown activation function {name}; known are {', '.join(ACTIVATIONS)}")
    if not all(isinstance(parameter, int) for parameter in parameters.values()):
        raise InfoscopeError(f"the parameters of activation function {name} are not whole numbers: {parameters}")
    try:
        return ACTIVATIONS[name](**parameters)
    except TypeError:
        raise InfoscopeError(f"activation function {name} does not take the parameters {parameters}") from None
