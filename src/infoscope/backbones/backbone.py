"""A vision transformer read at one block: pixels in, patch tokens out, or its MLP's neurons on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from infoscope.backbones.checkpoint import hash_files, hash_tensors, states_of
from infoscope.backbones.families import Channels, Family
from infoscope.errors import InfoscopeError, check_choice
from infoscope.options import Precision, Reads

# Measured on two cores with a ViT-S/14 at 224 pixels: 4 and 8 are the fastest, 16 and 32 take a tenth longer. The
# number for a GPU is our choice.
CPU_BATCH, DEVICE_BATCH = 8, 64

Pixels: TypeAlias = UInt8[Tensor, "image row column 3"] | UInt8[np.ndarray, "image row column 3"]
"""8-bit RGB views, as the image views give them."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Backbone:
    """A model, the block it is read at, and all that is needed to feed it. ``load_backbone`` makes one.

    The output of a block is the residual stream after it, before any final norm. With ``reads="neurons"`` a token is
    the activations of the block's MLP after its nonlinearity. What follows in the model is not run.

    Attributes:
        name: the path or hub id the model was asked for by.
        revision: commit on the hub, ``None`` for a local directory.
        block: the block read, 0-based, never negative.
        patch_size: n, pixels per patch side.
        input_side: pn, pixels per side of the input.
        width: length of a token.
        prefix_tokens: tokens before the first patch: CLS, registers, DeiT's distillation token.
        mean: what is subtracted from pixels on the scale 0..1: red, green, blue.
        std: what they are then divided by.
        model: the vision model of transformers, in evaluation mode and without gradients.
        layout: the row of the table of families it belongs to.
        weight_files: the safetensors files it was read from, in order of their names; none for a model made in memory.
        weight_states: sizes and times of these files when they were read.
        precision: of the forward pass; tokens are float32 in any case.
        reads: what is read at the block: its ``output``, or its MLP's ``neurons``.
        missing_weights: weights that the checkpoint lacks and that hold random numbers; all of them come after the last
            block.

    Example:
        >>> import tempfile
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        ...                    image_size=64, patch_size=16)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=-1, device="cpu")
        >>> backbone.family, backbone.block, backbone.blocks, backbone.grid, backbone.prefix_tokens
        ('ViT', 2, 3, 4, 1)
        >>> photographs = np.zeros((2, 64, 64, 3), np.uint8)
        >>> backbone.tokens(photographs).shape, backbone.all_tokens(photographs).shape
        (torch.Size([2, 16, 32]), torch.Size([2, 17, 32]))
        >>> neurons = backbone.at(block=0, reads="neurons")
        >>> neurons.width, neurons.tokens(photographs).shape
        (64, torch.Size([2, 16, 64]))
    """

    name: str
    revision: str | None
    block: int
    patch_size: int
    input_side: int
    width: int
    prefix_tokens: int
    mean: Channels
    std: Channels
    model: nn.Module = field(repr=False)
    layout: Family = field(repr=False)
    weight_files: tuple[Path, ...] = field(default=(), repr=False)
    weight_states: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    precision: Precision = "float32"
    reads: Reads = "output"
    missing_weights: tuple[str, ...] = field(default=(), repr=False)

    def at(self, block: int | None = None, reads: Reads | None = None) -> Backbone:
        """The same model, sharing its weights, read elsewhere.

        Args:
            block: 0-based, negative from the end; by default the block it is read at now.
            reads: ``output`` or ``neurons``; by default what it reads now.

        Raises:
            InfoscopeError: there is no such block, or its MLP has no layout that is known.
        """
        check_choice("reads", reads := reads or self.reads, Reads)
        (number,) = self.block_numbers([self.block if block is None else block])
        other = replace(self, block=number, reads=reads)
        config: Any = self.model.config
        width = other._down.in_features if reads == "neurons" else int(config.hidden_size)
        other = replace(other, width=width)
        if "sha256" in self.__dict__:  # hashed once for all of a model's blocks
            other.__dict__["sha256"] = self.sha256
        return other

    @property
    def gated(self) -> bool:
        """Whether the block's MLP multiplies its neurons by another layer's output, which gives them either sign."""
        return _first_module(self.block_module, (self.layout.gate,)) is not None

    @property
    def family(self) -> str:
        """Name of the family, as in the table."""
        return self.layout.name

    @property
    def blocks(self) -> int:
        """Number of blocks of the model."""
        return len(self.block_list)

    def block_numbers(self, blocks: Iterable[int]) -> list[int]:
        """Blocks as numbers from 0; negative ones are counted from the end.

        Raises:
            InfoscopeError: there is no such block.
        """
        blocks = list(blocks)
        for block in blocks:
            if not -self.blocks <= block < self.blocks:
                raise InfoscopeError(
                    f"{self.name} has blocks 0 to {self.blocks - 1}, and no block {block}; choose one of these"
                )
        return [block % self.blocks for block in blocks]

    @property
    def grid(self) -> int:
        """p, patches per side of the input."""
        return self.input_side // self.patch_size

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def batch_size(self) -> int:
        """Views to a forward pass when none is asked for: few enough for a CPU's cache, many enough to fill a GPU."""
        return CPU_BATCH if self.device.type == "cpu" else DEVICE_BATCH

    @property
    def position_table(self) -> Float[Tensor, "*position width"] | None:
        """The learned position table itself (not a copy), prefix first; ``None`` where positions are rotary."""
        path = self.layout.position_table
        return None if path is None else self.model.get_parameter(path)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the weight files' bytes in order of their names, in hexadecimal; read on first use.

        For a model made in memory, of the file that its tensors would make.

        Raises:
            InfoscopeError: a file is no longer the one that was loaded.
        """
        if not self.weight_files:
            return hash_tensors(self.model.state_dict())
        digest = hash_files(self.weight_files)
        if self.weight_states and states_of(self.weight_files) != self.weight_states:
            raise InfoscopeError(f"the weights of {self.name} have changed since they were loaded; load them again")
        return digest

    def tokens(self, pixels: Pixels) -> Float32[Tensor, "image patch width"]:
        """Patch tokens at the output of the block, prefix excluded.

        Args:
            pixels: 8-bit RGB at the model's input size, ``[image, pn, pn, 3]``, as the image views give it.

        Returns:
            ``[image, p * p, width]``, patches row-major, float32 on the model's device.

        Raises:
            InfoscopeError: the pixels are not 8-bit RGB of the model's input size.
        """
        return self.tokens_from_normalised(self.normalise(pixels))

    def all_tokens(self, pixels: Pixels) -> Float32[Tensor, "image token width"]:
        """All tokens at the output of the block: the prefix, then the patches as in ``tokens``.

        Raises:
            InfoscopeError: the pixels are not 8-bit RGB of the model's input size.
        """
        return own_copy(self._residual_stream(self.normalise(pixels)))

    def read_blocks(
        self,
        pixels: Pixels,
        blocks: Sequence[int],
        read: Callable[[int, Float32[Tensor, "image token width"]], T],
    ) -> list[T]:
        """What ``read`` makes of the residual stream at several blocks, from one forward pass, whatever ``reads`` is.

        A stream is handed over when the pass reaches it and then dropped, so memory does not grow with the number of
        blocks. Nothing after the last of the blocks is run.

        Args:
            pixels: as for `tokens`.
            blocks: which blocks, 0-based; negative counts from the end.
            read: takes a block, never negative, and all its tokens ``[image, token, width]``, prefix first, float32,
                which it must neither change nor keep.

        Returns:
            What ``read`` gave, in the order of ``blocks``.

        Raises:
            InfoscopeError: there is no such block, or the pixels are not 8-bit RGB of the model's input size.
        """
        if not blocks:
            raise InfoscopeError(f"{self.name} has blocks 0 to {self.blocks - 1}, and none was asked for")
        numbers = self.block_numbers(blocks)
        results: dict[int, T] = {}

        def take(block: int, stream: Tensor) -> None:
            results[block] = read(block, stream.to(torch.float32))

        self._run_to_blocks(self.normalise(pixels), numbers, take)
        return [results[block] for block in numbers]

    def normalise(self, pixels: Pixels) -> Float32[Tensor, "image 3 row column"]:
        """Pixels as the model takes them, ((x / 255) - mean) / std in float32, on its device.

        Raises:
            InfoscopeError: the pixels are not 8-bit RGB of the model's input size.
        """
        side = self.input_side
        if pixels.shape[1:] != (side, side, 3) or pixels.dtype not in (np.uint8, torch.uint8):
            raise InfoscopeError(
                f"{self.name} takes pixels as [image, {side}, {side}, 3] of uint8; these are "
                f"{list(pixels.shape)} of {pixels.dtype}"
            )
        # Copied, because Pillow's arrays are read-only and torch will not share them silently.
        image = pixels if isinstance(pixels, Tensor) else torch.tensor(pixels)
        if self.device.type == "cuda" and image.device.type == "cpu":
            image = image.pin_memory()  # so that the copy does not wait for work queued on the GPU
        image = image.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        image = image.to(torch.float32, memory_format=torch.contiguous_format)
        mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return image.div_(255).sub_(mean).div_(std)

    def tokens_from_normalised(
        self, images: Float[Tensor, "image 3 row column"]
    ) -> Float32[Tensor, "image patch width"]:
        """``tokens`` without the normalising: the forward pass alone, as a benchmark needs it.

        Args:
            images: what ``normalise`` gives.
        """
        return own_copy(self._residual_stream(images)[:, self.prefix_tokens :])

    def final_norm(self, tokens: Float[Tensor, "*token width"]) -> Float32[Tensor, "*token width"]:
        """Tokens of any block through the norm after the last block; as they are where the model has none.

        Args:
            tokens: of the residual stream.
        """
        path = self.layout.final_norm
        if path is None:
            return tokens.to(torch.float32)
        with torch.inference_mode():
            normed: Tensor = self.model.get_submodule(path)(tokens.to(self.device, self.dtype))
        return own_copy(normed)

    @property
    def block_list(self) -> nn.ModuleList:
        """All blocks."""
        blocks = self.model.get_submodule(self.layout.blocks)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def block_module(self) -> nn.Module:
        """The block itself."""
        return self.block_list[self.block]

    @property
    def _down(self) -> nn.Linear:
        """The layer that takes the MLP's neurons: its input is the output of the nonlinearity."""
        layer = _first_module(self.block_module, self.layout.neurons)
        if not isinstance(layer, nn.Linear):
            raise InfoscopeError(
                f"{self.name}: block {self.block} has no MLP of a known layout ({' or '.join(self.layout.neurons)}), "
                "so its neurons cannot be read; choose another dictionary"
            )
        return layer

    @property
    def neuron_directions(self) -> Float32[Tensor, "width neuron"]:
        """What each of the block's neurons writes into the stream, before what the block scales it by."""
        return self._down.weight.detach().to(torch.float32)

    def _residual_stream(self, images: Tensor) -> Tensor:
        """The block's output for all tokens, in the model's precision; or its neurons."""
        streams: list[Tensor] = []
        if self.reads == "neurons":

            def take_input(module: nn.Module, arguments: tuple[Any, ...]) -> None:
                streams.append(arguments[0])
                raise _ReachedError

            run_with(self.model, self.inputs(images), [self._down.register_forward_pre_hook(take_input)])
        else:
            self._run_to_blocks(images, [self.block], lambda block, stream: streams.append(stream))
        return streams[0]

    def _run_to_blocks(self, images: Tensor, blocks: Sequence[int], take: Callable[[int, Tensor], None]) -> None:
        """Run the model up to the last of some blocks, handing over each one's output in the model's precision."""
        last = max(blocks)
        hooks = [
            self.block_list[block].register_forward_hook(partial(_reach, take, block, block == last))
            for block in sorted(set(blocks))
        ]
        run_with(self.model, self.inputs(images), hooks)

    def inputs(self, images: Float[Tensor, "image 3 row column"]) -> dict[str, Any]:
        """What the model's forward takes for normalised pixels; see `model_inputs`."""
        return model_inputs(images.to(self.device, self.dtype), self.layout, self.patch_size)


def _reach(
    take: Callable[[int, Tensor], None],
    block: int,
    is_last: bool,
    module: nn.Module,
    arguments: tuple[Any, ...],
    output: Any,
) -> None:
    """A forward hook of a block, after its first three arguments: hand over what it gives, and end the pass."""
    take(block, stream_of(output))
    if is_last:
        raise _ReachedError


def model_inputs(images: Tensor, layout: Family, patch_size: int) -> dict[str, Any]:
    """What the forward of a family's models takes.

    Args:
        images: normalised pixels ``[image, 3, pn, pn]``, on the model's device and in its type.
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


class _ReachedError(Exception):
    """Ends a forward pass from within a hook; `run_with` catches it."""


def run_with(model: nn.Module, inputs: Mapping[str, Any], hooks: Sequence[RemovableHandle]) -> Any:
    """Run a model with hooks, then remove them: its output, or None where a hook ended the pass."""
    try:
        with torch.inference_mode():
            return model(**inputs)
    except _ReachedError:
        return None
    finally:
        for hook in hooks:
            hook.remove()


def stream_of(output: Any) -> Tensor:
    """The residual stream in a block's output: a tensor in some versions of transformers, in others a tuple's first."""
    stream: Tensor = output[0] if isinstance(output, tuple) else output
    return stream


def _first_module(block: nn.Module, paths: Sequence[str]) -> nn.Module | None:
    """The first of some submodules that a block has."""
    modules = dict(block.named_modules())
    return next((modules[path] for path in paths if path in modules), None)


def own_copy(tokens: Tensor) -> Tensor:
    """A float32 copy outside inference mode, which training may use and nothing else holds."""
    return tokens.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
