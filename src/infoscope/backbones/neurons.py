"""Where the neurons of a block's MLP are."""

from __future__ import annotations

from torch import nn

from infoscope.backbones.families import Family
from infoscope.errors import InfoscopeError


def layer_after_neurons(block: nn.Module, layout: Family, name: str) -> nn.Linear:
    """The layer that takes the MLP's neurons: what goes into it is what comes out of the nonlinearity.

    Args:
        block: of a model of transformers.
        layout: the model's family.
        name: of the model and block, for the message.

    Raises:
        InfoscopeError: the block has no MLP of a layout that is known.
    """
    found = _find(block, layout.neurons)
    if not isinstance(found, nn.Linear):
        raise InfoscopeError(
            f"{name} has no MLP of a known layout ({' or '.join(layout.neurons)}), so its neurons cannot be read; "
            "choose another dictionary"
        )
    return found


def is_gated(block: nn.Module, layout: Family) -> bool:
    """Whether the MLP multiplies its neurons by another layer's output, which gives them either sign."""
    return _find(block, (layout.gate,)) is not None


def _find(block: nn.Module, paths: tuple[str, ...]) -> nn.Module | None:
    """The first of some submodules that is there."""
    modules = dict(block.named_modules())
    return next((modules[path] for path in paths if path in modules), None)
