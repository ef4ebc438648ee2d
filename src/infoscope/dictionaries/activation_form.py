"""Activation functions as data: a name and numbers for JSON, and tensors for a weights file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from infoscope.dictionaries.activations import Activation, Gated, JumpReLU, ReLU, TopK
from infoscope.errors import InfoscopeError, few, shown

ACTIVATIONS: dict[str, type[Any]] = {kind.name: kind for kind in (ReLU, TopK, JumpReLU, Gated)}

Kind = TypeVar("Kind", bound=type)

# The parameters that JSON can hold, by the type of the field; a tensor lies in the weights file.
_EXPECTED = {"int": "whole numbers", "bool": "true or false", "float": "finite numbers", "str": "strings"}


def register_activation(kind: Kind) -> Kind:
    """Make an activation function's class one that SAE files may name, so that SAEs with it are saved and read.

    Args:
        kind: a frozen dataclass that is an `Activation`; its fields are annotated as ``int``, ``float``, ``bool``,
            ``str``, or as a tensor with an entry a feature.

    Returns:
        The class itself, so that this serves as a decorator.

    Raises:
        InfoscopeError: it is no such class, or its name is another's.

    Example:
        >>> register_activation(ReLU) is ReLU
        True
    """
    name = getattr(kind, "name", None)
    if not is_dataclass(kind) or not isinstance(name, str):
        raise InfoscopeError(f"{shown(kind)} is no activation function: make it a frozen dataclass with a name")
    if ACTIVATIONS.setdefault(name, kind) is not kind:
        raise InfoscopeError(f"there is another activation function {name}; give this one a name of its own")
    return kind


def activation_to_json(activation: Activation) -> dict[str, Any]:
    """Name and numbers, for ``sae.json``.

    Raises:
        InfoscopeError: no file could be read with it, because its class is not registered.

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
    """The parameters that have an entry a feature, by name.

    Example:
        >>> import torch
        >>> activation_tensors(TopK(32)), list(activation_tensors(JumpReLU(torch.zeros(3))))
        ({}, ['threshold'])
    """
    return {name: value for name, value in _parameters(activation).items() if isinstance(value, Tensor)}


def map_tensors(activation: Activation, change: Callable[[Tensor], Tensor]) -> Activation:
    """The same function with other tensors, such as the same on another device."""
    changed = {name: change(value) for name, value in activation_tensors(activation).items()}
    return replace(activation, **changed) if changed else activation


def activation_from_json(value: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> Activation:
    """The activation function that `activation_to_json` and `activation_tensors` described.

    Raises:
        InfoscopeError: the name is unknown, or the parameters are not its own.

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
    """Whether a value may stand for a field whose type has that name; a tensor never comes from JSON."""
    if expected == "float":
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value).__name__ == expected and expected in _EXPECTED


def _parameters(activation: Activation) -> dict[str, Any]:
    return {field.name: getattr(activation, field.name) for field in fields(activation)}
