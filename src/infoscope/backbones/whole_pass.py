"""Running a model to its end, and once more from edited tokens of one block on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Float32
from torch import Tensor, nn

from infoscope.backbones.backbone import Backbone, Pixels, own_copy, run_with, stream_of
from infoscope.errors import InfoscopeError


@dataclass(frozen=True)
class Outputs:
    """What a forward pass to the model's end gives.

    Attributes:
        tokens: the residual stream after each of the requested blocks, ``[image, token, width]``, prefix first.
        last: the model's last hidden state as transformers gives it, for some families after the final norm.
        pooled: the model's own pooled vector, ``[image, width]``; None where it has none.
    """

    tokens: dict[int, Float32[Tensor, "image token width"]]
    last: Float32[Tensor, "image token width"]
    pooled: Float32[Tensor, "image width"] | None


class WholePass:
    """A forward pass to the model's end that can be repeated from edited tokens of the backbone's block on.

    Repeating it costs the blocks that follow and the embedding of the patches; the blocks up to the edited one are
    not run again. Whatever surrounds the blocks (position tables, final norm, pooling) stays the model's own code, so
    no family needs code here.

    Args:
        backbone: the model, at the block to edit.
        pixels: as for `Backbone.tokens`.
        blocks: the blocks whose outputs to record; negative counts from the end.

    Raises:
        InfoscopeError: the backbone reads neurons, from which the model cannot be continued; there is no such block;
            or the pixels are not 8-bit RGB of the model's input size.

    Example:
        >>> import tempfile
        >>> import numpy as np, torch
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        ...                    image_size=64, patch_size=16)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=1, device="cpu")
        >>> untouched = WholePass(backbone, np.zeros((2, 64, 64, 3), np.uint8), blocks=[0, 2])
        >>> sorted(untouched.outputs.tokens), untouched.stream.shape
        ([0, 2], torch.Size([2, 17, 32]))
        >>> again = untouched.run_from(untouched.stream)
        >>> torch.equal(again.last, untouched.outputs.last)
        True
        >>> torch.equal(untouched.run_from(2 * untouched.stream).last, untouched.outputs.last)
        False
    """

    def __init__(
        self,
        backbone: Backbone,
        pixels: Pixels,
        blocks: Sequence[int] = (),
    ):
        if backbone.reads != "output":
            raise InfoscopeError(f"{backbone.name} is read at neurons of block {backbone.block}; edit its output")
        self._backbone = backbone
        self._blocks = sorted(set(backbone.block_numbers(blocks)))
        self._inputs = backbone.inputs(backbone.normalise(pixels))
        edited_block: list[Any] = []
        hook = backbone.block_module.register_forward_hook(
            lambda module, arguments, output: edited_block.append(output)
        )
        try:
            self.outputs = self._run(self._blocks)
        finally:
            hook.remove()
        (output,) = edited_block
        # What a block gives beside the stream, in versions of transformers in which it gives a tuple.
        self._rest: tuple[Any, ...] | None = output[1:] if isinstance(output, tuple) else None
        self.stream: Float32[Tensor, "image token width"] = own_copy(stream_of(output))
        """The block's output, which the backbone's SAE reads."""

    def run_from(self, stream: Float[Tensor, "image token width"]) -> Outputs:
        """Run the rest of the model on an edited stream.

        Args:
            stream: what takes the place of the block's output, all tokens.

        Returns:
            As `outputs`, without the requested blocks before the backbone's, which an edit does not change.
        """
        backbone = self._backbone
        edited = stream.to(backbone.device, backbone.dtype)
        output = edited if self._rest is None else (edited, *self._rest)
        with _skipping([backbone.block_list[block] for block in range(backbone.block + 1)], output):
            return self._run([block for block in self._blocks if block >= backbone.block])

    def _run(self, blocks: Sequence[int]) -> Outputs:
        streams: dict[int, Tensor] = {}

        def record_as(block: int) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
            def record(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
                streams[block] = stream_of(output)

            return record

        modules = self._backbone.block_list
        hooks = [modules[block].register_forward_hook(record_as(block)) for block in blocks]
        output = run_with(self._backbone.model, self._inputs, hooks)
        # A planted model gives its tokens and nothing else.
        only_tokens = isinstance(output, Tensor)
        last = output if only_tokens else output.last_hidden_state
        pooled = None if only_tokens else getattr(output, "pooler_output", None)
        return Outputs(
            {block: own_copy(stream) for block, stream in streams.items()},
            own_copy(last),
            None if pooled is None else own_copy(pooled),
        )


@contextmanager
def _skipping(blocks: Sequence[nn.Module], output: Any) -> Iterator[None]:
    """Make blocks do nothing, and the last of them return ``output``, even if other hooks would write into it."""
    own = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = lambda *arguments, **options: output  # shadows the method of the class
    # Hooks run in the order they were registered, so this one, the last, has the final say.
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
