"""A vision transformer read at one block: pixels in, patch tokens out, or its MLP's neurons on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from infoscope.backbones.checkpoint import hash_files, hash_tensors, states_of
from infoscope.backbones.families import Channels, Family, Reads
from infoscope.backbones.neurons import is_gated, layer_after_neurons
from infoscope.backbones.precision import Precision
from infoscope.backbones.running import model_inputs, run_to_blocks, run_to_input
from infoscope.errors import InfoscopeError, check_choice

# Measured on two cores with a ViT-S/14 at 224 pixels: 4 and 8 are the fastest, 16 and 32 take a tenth longer.
# Our choice for a GPU.
CPU_BATCH, DEVICE_BATCH = 8, 64

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Backbone:
    """A model, the block it is read at, and all that is needed to feed it. Made by ``load_backbone``.

    The output of a block is the residual stream after it, before any final norm. Nothing after the block is run. With
    ``reads="neurons"`` a token is what the block's MLP holds of it after its nonlinearity, and nothing after is run.

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
        weight_files: the safetensors files it was read from, in order of their names; none for a model that was made
            in memory.
        weight_states: sizes and times of these files when they were read.
        precision: of the forward pass; tokens are given as float32 whatever it is.
        reads: what of the block is read: its ``output``, or its MLP's ``neurons``.
        missing_weights: weights of the model that its checkpoint lacks and that hold random numbers; all of them come
            after the last block.

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
        """The same model, its weights shared, read elsewhere.

        Args:
            block: 0-based, negative from the end; the one it is read at by default.
            reads: ``output`` or ``neurons``; what it reads by default.

        Raises:
            InfoscopeError: there is no such block, or it has no MLP that is known.
        """
        check_choice("reads", reads := reads or self.reads, Reads)
        block = self.block if block is None else block
        if not -self.blocks <= block < self.blocks:
            raise InfoscopeError(
                f"{self.name} has blocks 0 to {self.blocks - 1}, and no block {block}; choose one of these"
            )
        other = replace(self, block=block % self.blocks, reads=reads)
        config: Any = self.model.config
        width = other._down.in_features if reads == "neurons" else int(config.hidden_size)
        other = replace(other, width=width)
        if "sha256" in self.__dict__:  # hashed once for all of a model's blocks
            other.__dict__["sha256"] = self.sha256
        return other

    @property
    def gated(self) -> bool:
        """Whether the block's MLP multiplies its neurons by another layer's output, which gives them either sign."""
        return is_gated(self.block_module, self.layout)

    @property
    def family(self) -> str:
        """Name of the family, as in the table."""
        return self.layout.name

    @property
    def blocks(self) -> int:
        """Number of blocks of the model."""
        return len(self.block_list)

    @property
    def grid(self) -> int:
        """p, patches per side of the input."""
        return self.input_side // self.patch_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
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
        found = hash_files(self.weight_files)
        if self.weight_states and states_of(self.weight_files) != self.weight_states:
            raise InfoscopeError(f"the weights of {self.name} have changed since they were loaded; load them again")
        return found

    def tokens(
        self, pixels: UInt8[Tensor, "image row column 3"] | UInt8[np.ndarray, "image row column 3"]
    ) -> Float32[Tensor, "image patch width"]:
        """Patch tokens at the output of the block, prefix excluded.

        Args:
            pixels: 8-bit RGB at the model's input size, ``[image, pn, pn, 3]``, as the image views give it.

        Returns:
            ``[image, p * p, width]``, patches row-major, float32 on the model's device.

        Raises:
            InfoscopeError: the pixels are not 8-bit RGB of the model's input size.
        """
        return self.tokens_from_normalised(self.normalise(pixels))

    def all_tokens(
        self, pixels: UInt8[Tensor, "image row column 3"] | UInt8[np.ndarray, "image row column 3"]
    ) -> Float32[Tensor, "image token width"]:
        """All tokens at the output of the block: the prefix, then the patches as in ``tokens``.

        Raises:
            InfoscopeError: the pixels are not 8-bit RGB of the model's input size.
        """
        return own_copy(self._residual_stream(self.normalise(pixels)))

    def read_blocks(
        self,
        pixels: UInt8[Tensor, "image row column 3"] | UInt8[np.ndarray, "image row column 3"],
        blocks: Sequence[int],
        read: Callable[[int, Float32[Tensor, "image token width"]], T],
    ) -> list[T]:
        """What ``read`` makes of the residual stream at several blocks, from one forward pass, whatever ``reads`` is.

        A stream is handed over when the pass reaches it and is not kept, so that memory does not grow with the number
        of blocks. Nothing after the last of the blocks is run.

        Args:
            pixels: as for `tokens`.
            blocks: which blocks, 0-based; negative counts from the end.
            read: given a block, never negative, and all its tokens ``[image, token, width]``, prefix first, float32;
                it must neither change nor keep them.

        Returns:
            What ``read`` gave, in the order of ``blocks``.

        Raises:
            InfoscopeError: there is no such block, or the pixels are not 8-bit RGB of the model's input size.
        """
        wrong = [block for block in blocks if not -self.blocks <= block < self.blocks]
        if wrong or not blocks:
            named = f"block {wrong[0]}" if wrong else "none"
            raise InfoscopeError(f"{self.name} has blocks 0 to {self.blocks - 1}; {named} was asked for")
        asked = [block % self.blocks for block in blocks]
        found: dict[int, T] = {}

        def take(block: int, stream: Tensor) -> None:
            found[block] = read(block, stream.to(torch.float32))

        run_to_blocks(self.model, self._inputs(self.normalise(pixels)), self._modules(asked), take)
        return [found[block] for block in asked]

    def normalise(
        self, pixels: UInt8[Tensor, "image row column 3"] | UInt8[np.ndarray, "image row column 3"]
    ) -> Float32[Tensor, "image 3 row column"]:
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
            image = image.pin_memory()  # so that the copy does not wait for what the GPU has to do
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
        return layer_after_neurons(self.block_module, self.layout, f"{self.name}: block {self.block}")

    def _residual_stream(self, images: Tensor) -> Tensor:
        """The block's output for all tokens, in the model's precision; or its neurons."""
        reached: list[Tensor] = []
        if self.reads == "neurons":
            run_to_input(self.model, self._inputs(images), self._down, reached.append)
        else:
            run_to_blocks(
                self.model,
                self._inputs(images),
                self._modules([self.block]),
                lambda block, stream: reached.append(stream),
            )
        return reached[0]

    def _modules(self, blocks: Sequence[int]) -> dict[int, nn.Module]:
        return {block: self.block_list[block] for block in blocks}

    def _inputs(self, images: Tensor) -> dict[str, Any]:
        return model_inputs(images.to(self.device, self.dtype), self.layout, self.patch_size)


def own_copy(tokens: Tensor) -> Tensor:
    """A float32 copy outside inference mode, which training may use and nothing else holds."""
    return tokens.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
