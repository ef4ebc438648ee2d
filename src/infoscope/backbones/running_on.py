"""Running a model to its end, and again from edited tokens of the block it is read at, without what comes before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from infoscope.backbones.backbone import Backbone, own_copy
from infoscope.backbones.running import model_inputs, run_with
from infoscope.errors import InfoscopeError


@dataclass(frozen=True)
class Outputs:
    """What a pass gives.

    Attributes:
        tokens: the residual stream after each block asked for, ``[image, token, width]``, prefix first.
        last: the model's last hidden state as transformers gives it: of some families after the final norm.
        pooled: the model's own pooled vector, ``[image, width]``; None where it has none.
    """

    tokens: dict[int, Float32[Tensor, "image token width"]]
    last: Float32[Tensor, "image token width"]
    pooled: Float32[Tensor, "image width"] | None


class WholePass:
    """A forward pass to the model's end that can be run on again from other tokens of the backbone's block.

    Running on costs what follows the block and the embedding of the patches; the blocks up to it are not run again.

    Args:
        backbone: the model, at the block to edit.
        pixels: as for `Backbone.tokens`.
        blocks: whose outputs to keep; negative counts from the end.

    Raises:
        InfoscopeError: the backbone reads neurons, which are no stream to go on with; there is no such block; or the
            pixels are not 8-bit RGB of the model's input size.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        ...                    image_size=64, patch_size=16)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=1, device="cpu")
        >>> untouched = WholePass(backbone, np.zeros((2, 64, 64, 3), np.uint8), blocks=[0, 2])
        >>> sorted(untouched.outputs.tokens), untouched.stream.shape
        ([0, 2], torch.Size([2, 17, 32]))
        >>> again = untouched.run_on(untouched.stream)
        >>> torch.equal(again.last, untouched.outputs.last)
        True
        >>> torch.equal(untouched.run_on(2 * untouched.stream).last, untouched.outputs.last)
        False
    """

    def __init__(
        self,
        backbone: Backbone,
        pixels: UInt8[Tensor, "image row column 3"] | UInt8[np.ndarray, "image row column 3"],
        blocks: Sequence[int] = (),
    ):
        if backbone.reads != "output":
            raise InfoscopeError(f"{backbone.name} is read at neurons of block {backbone.block}; edit its output")
        wrong = [block for block in blocks if not -backbone.blocks <= block < backbone.blocks]
        if wrong:
            raise InfoscopeError(
                f"{backbone.name} has blocks 0 to {backbone.blocks - 1}, and no block {wrong[0]}; choose among these"
            )
        self._backbone = backbone
        self._blocks = sorted({block % backbone.blocks for block in blocks})
        images = backbone.normalise(pixels).to(backbone.device, backbone.dtype)
        self._inputs = model_inputs(images, backbone.layout, backbone.patch_size)
        # A block gives a tensor in some versions of transformers and a tuple in others.
        self._rest: tuple[Any, ...] | None = None
        taken: list[Tensor] = []

        def take(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, tuple):
                self._rest = output[1:]
            taken.append(_stream_of(output))

        handle = backbone.block_module.register_forward_hook(take)
        try:
            self.outputs = self._run(self._blocks)
        finally:
            handle.remove()
        self.stream: Float32[Tensor, "image token width"] = own_copy(taken[0])
        """The block's output, which the backbone's SAE reads."""

    def run_on(self, stream: Float[Tensor, "image token width"]) -> Outputs:
        """The rest of the model on an edited stream.

        Args:
            stream: what takes the place of the block's output, all tokens.

        Returns:
            As `outputs`; of the blocks asked for, those before the backbone's are left out: they do not change.
        """
        backbone = self._backbone
        edited = stream.to(backbone.device, backbone.dtype)
        output = edited if self._rest is None else (edited, *self._rest)
        with _skipping([backbone.block_list[block] for block in range(backbone.block + 1)], output):
            return self._run([block for block in self._blocks if block >= backbone.block])

    def _run(self, blocks: Sequence[int]) -> Outputs:
        kept: dict[int, Tensor] = {}

        def keep_as(block: int) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
            def keep(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
                kept[block] = _stream_of(output)

            return keep

        modules = self._backbone.block_list
        hooks = [modules[block].register_forward_hook(keep_as(block)) for block in blocks]
        output = run_with(self._backbone.model, self._inputs, hooks)
        # A planted model has nothing but its tokens to give.
        whole = isinstance(output, Tensor)
        last = output if whole else output.last_hidden_state
        pooled = None if whole else getattr(output, "pooler_output", None)
        return Outputs(
            {block: own_copy(tokens) for block, tokens in kept.items()},
            own_copy(last),
            None if pooled is None else own_copy(pooled),
        )


def _stream_of(output: Any) -> Tensor:
    stream: Tensor = output[0] if isinstance(output, tuple) else output
    return stream


@contextmanager
def _skipping(blocks: Sequence[nn.Module], output: Any) -> Iterator[None]:
    """Have blocks do nothing, and the last of them give an output, whatever other hooks make of it."""
    own = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = lambda *arguments, **options: output  # hides the class's own
    hook = blocks[-1].register_forward_hook(lambda module, arguments, changed: output)
    try:
        yield
    finally:
        hook.remove()
        for block, forward in zip(blocks, own, strict=True):
            if forward is None:
                del block.forward
            else:
                block.forward = forward
