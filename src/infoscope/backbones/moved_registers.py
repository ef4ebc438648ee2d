"""A model whose registers are left out, and what they held put on patches: outlier tokens in trained weights.

Some vision transformers were given register tokens, so that what the network keeps of the whole picture has a place of
its own (Darcet et al. 2024, arXiv 2309.16588). In such a model a few neurons of one MLP write a register's outlying
norm. Jiang et al. 2025 (arXiv 2506.08010) moved outliers from patches to a token that was added for them, by moving the
activations of such neurons; here it is done the other way round. The registers are left out, and the same neurons are
set, on a few patches of each view, to what they were on the register. The weights are as they were trained. The place
of the outliers was moved, and whoever shows such a model must say so.

`move_registers` finds the block, the register and the neurons by rules. A moved model is a `Backbone` like any other,
and `save_moved` writes a directory that `load_backbone` reads.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from infoscope.backbones.backbone import Backbone, Pixels
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import decode_sample
from infoscope.images.source import Images, ImageSource, open_images
from infoscope.images.views import Views
from infoscope.runtime.progress import progress

LEAST_RISE = 5.0
"""A register is an outlier where its norm after a block is at least so many times the patches' median, and was not
before that block. Our choice: outliers are counted from three times on (docs/outliers.md), and a DINOv2 ViT-S/14 with
registers has 53."""
LEAST_SHARE = 1 / 20
"""A neuron moves with the register where what it writes there is at least this long, as a share of what the strongest
neuron writes. Our choice: on a DINOv2 ViT-S/14 the five strongest write 1, 0.67, 0.54, 0.49 and 0.07 of that, the next
0.02."""
SAMPLE = 64
"""Images that block, register and neurons are found on. Our choice: the neurons' means on the register vary by 2 % from
picture to picture."""
_PREFIX = "moved_registers."
_NONLINEARITIES = ("mlp.activation_fn", "mlp.act_fn", "mlp.act")
_REGISTERS = "embeddings.register_tokens"


@dataclass(frozen=True, eq=False)
class MovedNeurons:
    """What is put where.

    Attributes:
        block: the block whose MLP writes the register's norm, 0-based.
        neurons: of that MLP, the strongest first.
        values: what each is set to: its mean on the register.
        patches: K, on how many patches of a view.
    """

    block: int
    neurons: Int64[Tensor, " neuron"]
    values: Float32[Tensor, " neuron"]
    patches: int

    def tensors(self) -> dict[str, Tensor]:
        """As a weight file holds it."""
        return {
            f"{_PREFIX}block": torch.tensor([self.block]),
            f"{_PREFIX}neurons": self.neurons,
            f"{_PREFIX}values": self.values,
            f"{_PREFIX}patches": torch.tensor([self.patches]),
        }


class Parking(nn.Module):
    """An MLP's nonlinearity, after which some neurons are set to fixed values on a few patches of each view.

    The patches are those on which these neurons come nearest to firing: where the sum of their inputs, each in units of
    the value it is set to, is largest. Of equal ones, the first.

    Args:
        inner: the nonlinearity.
        moved: the neurons, their values, and on how many patches.
        prefix: tokens before the first patch.

    Example:
        >>> moved = MovedNeurons(0, torch.tensor([1]), torch.tensor([7.0]), patches=1)
        >>> view = torch.tensor([[[9.0, 9.0], [1.0, -3.0], [1.0, -2.0]]])      # CLS and two patches
        >>> Parking(nn.ReLU(), moved, prefix=1)(view).tolist()
        [[[9.0, 9.0], [1.0, 0.0], [1.0, 7.0]]]
    """

    neurons: Tensor
    values: Tensor

    def __init__(self, inner: nn.Module, moved: MovedNeurons, prefix: int):
        super().__init__()
        self.inner, self.patches, self.prefix, self.block = inner, moved.patches, prefix, moved.block
        # What is put where is part of what the model is, and so of its hash.
        self.register_buffer("neurons", moved.neurons)
        self.register_buffer("values", moved.values)
        self.register_buffer("count", torch.tensor(moved.patches))

    def forward(self, before: Tensor) -> Tensor:
        """The neurons, after what was moved."""
        after: Tensor = self.inner(before)
        near = (before[:, self.prefix :, self.neurons].float() / self.values.float()).sum(-1)
        # A stable order, so that equal patches are chosen alike whatever else is in the batch.
        chosen = near.argsort(dim=1, descending=True, stable=True)[:, : self.patches] + self.prefix
        after = after.clone()
        view = torch.arange(len(after), device=after.device)[:, None, None]
        after[view, chosen[:, :, None], self.neurons] = self.values.to(after.dtype)
        return after

    def moved(self) -> MovedNeurons:
        """What is put where."""
        return MovedNeurons(self.block, self.neurons, self.values, self.patches)


def move_registers(backbone: Backbone, images: Images, patches: int = 1, sample: int = SAMPLE) -> Backbone:
    """The model without its registers, and with what they held on a few patches of each view.

    Block, register and neurons are found on images: the first block after which a register's norm is at least five
    times the patches' median; that register; and the neurons of the block's MLP that write at least a twentieth of
    what the strongest one writes there.

    Args:
        backbone: a model with registers, one of which is an outlier.
        images: photographs.
        patches: K, on how many patches of a view they are put; 0 leaves the registers out and moves nothing, as a
            control.
        sample: how many of the photographs are looked at, spread evenly.

    Raises:
        InfoscopeError: the model has no registers, none is an outlier, its MLP has an unknown layout, the number of
            patches is out of range, or no image can be read.

    Example:
        >>> from infoscope.backbones.loading import load_backbone
        >>> move_registers(load_backbone("no/such/directory", block=0), np.zeros((1, 56, 56, 3), np.uint8))
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such model: no/such/directory; name a directory, or a hub id like
        openai/clip-vit-base-patch16
    """
    if not backbone.layout.registers or backbone.prefix_tokens <= backbone.layout.special_tokens:
        raise InfoscopeError(f"{backbone.name} has no registers to move; choose a model that has, such as DINOv2's")
    if not 0 <= patches <= backbone.grid**2:
        raise InfoscopeError(
            f"patches {patches} is out of range: a view has {backbone.grid**2}; choose 1 or a few more, or 0 to leave "
            "the registers out and move nothing"
        )
    batches = _sample_of(backbone, open_images(images), sample)
    with progress("Looking for the register and its neurons", 2 * sum(map(len, batches)), "images") as advance:
        block, register = _outlying_register(backbone, batches, advance)
        neurons, values = _neurons_of(backbone, batches, block, register, advance)
    model: Any = copy.deepcopy(backbone.model)
    model.config.num_register_tokens = 0
    registers = model.get_parameter(_REGISTERS)
    model.get_submodule("embeddings").register_tokens = nn.Parameter(registers[:, :0].clone(), requires_grad=False)
    other = replace(
        backbone,
        name=f"{backbone.name}, registers on {patches} patch{'' if patches == 1 else 'es'}",
        model=model,
        prefix_tokens=backbone.layout.prefix_tokens(model.config),
        weight_files=(),
        weight_states=(),
    )
    park(other, MovedNeurons(block, neurons, values, patches))
    return other


def park(backbone: Backbone, moved: MovedNeurons) -> None:
    """Set neurons of a model that has no registers, from now on, on some patches of each view.

    Raises:
        InfoscopeError: the model has no such block, neurons or number of patches, or an MLP of an unknown layout.
    """
    if not 0 <= moved.block < backbone.blocks or not 0 <= moved.patches <= backbone.grid**2:
        raise InfoscopeError(f"{backbone.name}: the block or the patches of its moved registers are out of range")
    path, block = _nonlinearity(backbone, moved.block), backbone.block_list[moved.block]
    width = backbone.at(block=moved.block, reads="neurons").width
    if not len(moved.neurons) or not ((moved.neurons >= 0) & (moved.neurons < width)).all():
        raise InfoscopeError(f"{backbone.name}: the neurons of its moved registers are not among the block's {width}")
    moved = replace(moved, neurons=moved.neurons.to(backbone.device), values=moved.values.to(backbone.device))
    block.set_submodule(path, Parking(block.get_submodule(path), moved, backbone.prefix_tokens))


def moved_neurons(backbone: Backbone) -> MovedNeurons | None:
    """What was moved in a model; None where nothing was."""
    parking = _parking(backbone)
    return None if parking is None else parking[1].moved()


def _parking(backbone: Backbone) -> tuple[str, Parking] | None:
    """The module that sets a model's neurons, after its path."""
    return next((found for found in backbone.model.named_modules() if isinstance(found[1], Parking)), None)


def save_moved(backbone: Backbone, out: str | Path) -> Path:
    """Write a moved model as a directory that `load_backbone` reads, in the layout of transformers.

    What was moved is in the weight file, so that it is part of the model's hash.

    Args:
        backbone: what `move_registers` gives.
        out: a new directory.

    Raises:
        InfoscopeError: nothing was moved in the model, the directory exists, or it cannot be written.
    """
    from safetensors.torch import save_file

    parking, folder = _parking(backbone), Path(out)
    if parking is None:
        raise InfoscopeError(f"no register of {backbone.name} was moved: make one with `infoscope.move_registers`")
    path, module = parking
    # What was moved has names of its own in the file; what it wraps has the names that it had.
    weights = {name: tensor for name, tensor in backbone.model.state_dict().items() if not name.startswith(f"{path}.")}
    weights |= {f"{path}.{name}": tensor for name, tensor in module.inner.state_dict().items()}
    weights |= module.moved().tensors()
    preprocessor = {"do_normalize": True, "image_mean": list(backbone.mean), "image_std": list(backbone.std)}
    try:
        folder.mkdir(parents=True)
        config: Any = backbone.model.config
        config.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
        save_file({name: tensor.contiguous().cpu() for name, tensor in weights.items()}, folder / "model.safetensors")
    except FileExistsError:
        raise InfoscopeError(f"{folder} exists already; name another directory") from None
    except OSError as error:
        raise InfoscopeError(f"{folder} cannot be written ({error.strerror or error}); choose another") from error
    return folder


def take_moved(weights: dict[str, Tensor]) -> MovedNeurons | None:
    """Take what was moved out of the tensors of a weight file; None where nothing was.

    Raises:
        InfoscopeError: some of it is missing or out of range.
    """
    given = {name.removeprefix(_PREFIX): weights.pop(name) for name in list(weights) if name.startswith(_PREFIX)}
    if not given:
        return None
    if given.keys() != {"block", "neurons", "values", "patches"} or len(given["neurons"]) != len(given["values"]):
        raise InfoscopeError("its moved registers are incomplete; write the model again")
    block, patches = int(given["block"]), int(given["patches"])
    return MovedNeurons(block, given["neurons"].long(), given["values"].float(), patches)


def _sample_of(backbone: Backbone, source: ImageSource, count: int) -> list[np.ndarray]:
    """Batches of whole photographs at the model's input size."""
    view = Views(backbone.patch_size, backbone.grid, 0).full
    views, size = decode_sample(source, count, view, "Reading photographs"), backbone.batch_size
    return [np.stack(views[begin : begin + size]) for begin in range(0, len(views), size)]


def _outlying_register(
    backbone: Backbone, batches: Sequence[Pixels], advance: Callable[[int], None]
) -> tuple[int, int]:
    """The first block after which a register is an outlier, and that register's place among all tokens."""
    special, prefix = backbone.layout.special_tokens, backbone.prefix_tokens
    blocks = range(backbone.blocks)
    ratios: list[list[np.ndarray]] = [[] for _ in blocks]

    def read(block: int, tokens: Tensor) -> None:
        norms = tokens.norm(dim=-1)
        ratio = norms[:, special:prefix] / norms[:, prefix:].median(dim=1, keepdim=True).values
        ratios[block].append(ratio.cpu().numpy())

    for pixels in batches:
        backbone.read_blocks(pixels, blocks, read)
        advance(len(pixels))
    typical = np.array([np.median(np.concatenate(of_block), axis=0) for of_block in ratios])
    over = typical.max(1) >= LEAST_RISE
    if not over.any():
        raise InfoscopeError(
            f"no register of {backbone.name} is an outlier: the largest norm is {typical.max():.1f} times the patches' "
            f"median, under {LEAST_RISE:g}; there is nothing to move"
        )
    block = int(over.argmax())
    return block, special + int(typical[block].argmax())


def _neurons_of(
    backbone: Backbone, batches: Sequence[Pixels], block: int, register: int, advance: Callable[[int], None]
) -> tuple[Int64[Tensor, " neuron"], Float32[Tensor, " neuron"]]:
    """The neurons that write a register's norm, and their means there."""
    reader = backbone.at(block=block, reads="neurons")
    total = torch.zeros(reader.width, device=backbone.device)
    for pixels in batches:
        total += reader.all_tokens(pixels)[:, register].sum(0)
        advance(len(pixels))
    mean = total / sum(map(len, batches))
    written = mean.abs() * reader.neuron_directions.norm(dim=0)
    order = written.argsort(descending=True)
    strongest = order[written[order] >= LEAST_SHARE * written[order[0]]]
    return strongest, mean[strongest]


def _nonlinearity(backbone: Backbone, block: int) -> str:
    """The path of the nonlinearity of a block's MLP within the block."""
    modules = dict(backbone.block_list[block].named_modules())
    for path in _NONLINEARITIES:
        if path in modules:
            return path
    raise InfoscopeError(
        f"{backbone.name}: the MLP of block {block} has no nonlinearity of a known layout "
        f"({', '.join(_NONLINEARITIES)}), so registers cannot be moved"
    )
