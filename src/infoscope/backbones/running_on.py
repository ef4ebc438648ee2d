"""Running a model on from edited tokens of the block it is read at, to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from infoscope.backbones.backbone import Backbone
from infoscope.backbones.running import model_inputs, run_with
from infoscope.errors import InfoscopeError

Edit = Callable[[Tensor], Tensor]
"""Given all tokens of the block's output, ``[image, token, width]`` in float32, prefix first: those to go on with."""


def run_on(
    backbone: Backbone,
    pixels: UInt8[Tensor, "image row column 3"] | UInt8[np.ndarray, "image row column 3"],
    edit: Edit | None = None,
) -> Float32[Tensor, "image token width"]:
    """The model's last hidden state, as transformers gives it, when the block's output is edited on its way.

    Args:
        backbone: the model, at the block to edit.
        pixels: as for `Backbone.tokens`.
        edit: what the rest of the model gets in place of the block's output; the output itself by default.

    Raises:
        InfoscopeError: the backbone reads neurons, which are no stream to go on with, or the pixels are not 8-bit RGB
            of the model's input size.

    Example:
        >>> import tempfile
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        ...                    image_size=64, patch_size=16)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=1, device="cpu")
        >>> photographs = np.zeros((2, 64, 64, 3), np.uint8)
        >>> untouched = run_on(backbone, photographs)
        >>> torch.equal(run_on(backbone, photographs, lambda tokens: tokens), untouched)
        True
        >>> torch.equal(run_on(backbone, photographs, lambda tokens: 2 * tokens), untouched)
        False
    """
    if backbone.reads != "output":
        raise InfoscopeError(f"{backbone.name} is read at neurons of block {backbone.block}; edit its output instead")

    def replace(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        if edit is None:
            return None
        # A block gives a tensor in some versions of transformers and a tuple in others.
        stream = output[0] if isinstance(output, tuple) else output
        edited = edit(stream.to(torch.float32, copy=True)).to(stream.dtype)
        return (edited, *output[1:]) if isinstance(output, tuple) else edited

    images = backbone.normalise(pixels).to(backbone.device, backbone.dtype)
    inputs = model_inputs(images, backbone.layout, backbone.patch_size)
    output = run_with(backbone.model, inputs, [backbone.block_module.register_forward_hook(replace)])
    # A planted model has nothing but its tokens to give.
    last: Tensor = output if isinstance(output, Tensor) else output.last_hidden_state
    return last.to(torch.float32, copy=True)
