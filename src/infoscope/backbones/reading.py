"""Reading tokens inside a model: hooks on modules, and a forward pass that ends with the last of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Take = Callable[[Tensor], None]
Watch = Callable[[Take], RemovableHandle]
"""Has a place of the model hand over its tokens whenever the forward pass gets there."""


class _AllReached(Exception):  # noqa: N818 - it reports no error
    """Ends a forward pass; never leaves this module."""


def output_of(module: nn.Module) -> Watch:
    """What a module gives."""

    def watch(take: Take) -> RemovableHandle:
        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            # A block gives a tensor in some versions of transformers and a tuple in others.
            take(output[0] if isinstance(output, tuple) else output)

        return module.register_forward_hook(hook)

    return watch


def input_of(module: nn.Module) -> Watch:
    """What a module is given."""

    def watch(take: Take) -> RemovableHandle:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            take(arguments[0])

        return module.register_forward_pre_hook(hook)

    return watch


def read_at(places: Sequence[Watch], forward: Callable[[], Any]) -> list[Tensor]:
    """The tokens at some places, from one forward pass, which is left as soon as the last of them is reached.

    Example:
        >>> layers = nn.Sequential(nn.Identity(), nn.ReLU(), nn.Softmax())
        >>> places = [output_of(layers[1]), input_of(layers[1])]
        >>> [tokens.tolist() for tokens in read_at(places, lambda: layers(torch.tensor([-1.0, 2.0])))]
        [[0.0, 2.0], [-1.0, 2.0]]
    """
    reached: dict[int, Tensor] = {}

    def take(place: int, tokens: Tensor) -> None:
        last = len(reached) == len(places) - 1
        # What runs on may write into them.
        reached[place] = tokens if last else tokens.clone()
        if last:
            raise _AllReached

    hooks = []
    try:
        for place, watch in enumerate(places):
            hooks.append(watch(partial(take, place)))
        with torch.inference_mode():
            forward()
    except _AllReached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return [reached[place] for place in range(len(places))]
