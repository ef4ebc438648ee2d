"""Running a model up to a block, or to the neurons within it, and no further."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from infoscope.backbones.families import Family


class _Reached(Exception):  # noqa: N818 - it reports no error
    """Ends a forward pass; never leaves this module."""


def model_inputs(images: Tensor, layout: Family, patch_size: int) -> dict[str, Any]:
    """What a model's forward takes.

    Args:
        images: normalised pixels ``[image, 3, pn, pn]``, where the model is and in its type.
        layout: the model's family.
        patch_size: n, pixels per patch side.

    Example:
        >>> from infoscope.backbones.families import FAMILIES
        >>> layouts = {layout.patchified: layout for layout in FAMILIES}
        >>> image = torch.arange(48.0).view(1, 3, 4, 4)
        >>> sorted(model_inputs(image, layouts[True], 2))
        ['pixel_attention_mask', 'pixel_values', 'spatial_shapes']
        >>> model_inputs(image, layouts[True], 2)["pixel_values"][0, 1].tolist()    # the upper right patch
        [2.0, 18.0, 34.0, 3.0, 19.0, 35.0, 6.0, 22.0, 38.0, 7.0, 23.0, 39.0]
    """
    if not layout.patchified:
        return {"pixel_values": images, **layout.forward_options}
    count, n, p = len(images), patch_size, images.shape[-1] // patch_size
    # A patch is flattened row by row with its channels last, as Siglip2ImageProcessor does it.
    patches = images.view(count, 3, p, n, p, n).permute(0, 2, 4, 3, 5, 1).reshape(count, p * p, n * n * 3)
    return {
        "pixel_values": patches,
        "pixel_attention_mask": torch.ones(count, p * p, dtype=torch.long, device=images.device),
        "spatial_shapes": torch.full((count, 2), p, device=images.device),
        **layout.forward_options,
    }


def run_to_blocks(
    model: nn.Module, inputs: Mapping[str, Any], blocks: Mapping[int, nn.Module], take: Callable[[int, Tensor], None]
) -> None:
    """Run a model up to the last of some blocks and hand over each one's output, in the model's precision.

    Args:
        model: of transformers.
        inputs: what `model_inputs` gives.
        blocks: the blocks by number.
        take: given a number and the output of that block, when the pass reaches it.
    """
    last = max(blocks)

    def hook_of(block: int) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def reach(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            # A block gives a tensor in some versions of transformers and a tuple in others.
            take(block, output[0] if isinstance(output, tuple) else output)
            if block == last:
                raise _Reached

        return reach

    run_with(model, inputs, [blocks[block].register_forward_hook(hook_of(block)) for block in sorted(blocks)])


def run_to_input(
    model: nn.Module, inputs: Mapping[str, Any], module: nn.Module, take: Callable[[Tensor], None]
) -> None:
    """Run a model up to one of its modules and hand over what goes into it, in the model's precision.

    Args:
        model: of transformers.
        inputs: what `model_inputs` gives.
        module: the module.
        take: given its input.
    """

    def reach(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        take(arguments[0])
        raise _Reached

    run_with(model, inputs, [module.register_forward_pre_hook(reach)])


def run_with(model: nn.Module, inputs: Mapping[str, Any], hooks: Sequence[RemovableHandle]) -> Any:
    """Run a model with hooks, and remove them: its output, or None where a hook ended the pass."""
    try:
        with torch.inference_mode():
            return model(**inputs)
    except _Reached:
        return None
    finally:
        for hook in hooks:
            hook.remove()
