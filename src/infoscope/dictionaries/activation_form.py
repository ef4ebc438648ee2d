"""Activation functions as data: a name and numbers for JSON, and tensors for a weights file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from infoscope.dictionaries.activations import Activation, Gated, JumpReLU, ReLU, TopK
from infoscope.errors import InfoscopeError

ACTIVATIONS: dict[str, type[Any]] = {kind.name: kind for kind in (ReLU, TopK, JumpReLU, Gated)}


def activation_to_json(activation: Activation) -> dict[str, Any]:
    """Name and numbers, for ``sae.json``.

    Example:
        >>> activation_to_json(TopK(32))
        {'name': 'topk', 'k': 32, 'relu': True}
    """
    numbers = {name: value for name, value in _parameters(activation).items() if not isinstance(value, Tensor)}
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
        raise InfoscopeError(f"unknown activation function {name}; known are {', '.join(ACTIVATIONS)}")
    if not all(isinstance(parameter, int) for parameter in parameters.values()):
        raise InfoscopeError(
            f"the parameters of activation function {name} are not whole numbers: {parameters}"
            "; correct them in the file that describes the SAE"
        )
    # A weights file may hold more than is needed.
    known = {field.name for field in fields(ACTIVATIONS[name])}
    needed = {key: tensor for key, tensor in (tensors or {}).items() if key in known}
    try:
        activation: Activation = ACTIVATIONS[name](**parameters, **needed)
    except TypeError:
        given = ", ".join([*parameters, *needed]) or "none"
        raise InfoscopeError(
            f"activation function {name} does not take these parameters: {given}"
            "; correct them in the file that describes the SAE"
        ) from None
    return activation


def _parameters(activation: Activation) -> dict[str, Any]:
    return {field.name: getattr(activation, field.name) for field in fields(activation)}
