"""From a name or folder to a model that is ready to run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infoscope.backbones.backbone import Backbone
from infoscope.backbones.checkpoint import Checkpoint, find_checkpoint, states_of
from infoscope.backbones.families import Family, family_of
from infoscope.backbones.hardware import find_device, set_multiplication, weights_dtype
from infoscope.backbones.moved_registers import park, take_moved
from infoscope.backbones.preprocessing import read_normalisation
from infoscope.errors import InfoscopeError, few, no_memory_to, ran_out_of_memory, shown
from infoscope.options import Precision, Reads

_LOGGER = logging.getLogger(__name__)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Buffers of whole numbers, which a model computes for itself.
_COUNTS = ("position_ids", "num_batches_tracked", "relative_position_index", "token_type_ids")
# How many weights an error names before it only counts.
_NAMED = 3
# What transformers says of a configuration quotes the value that is wrong, however long that is.
_LONGEST_REASON = 400
# More than any model's sizes; a model that large would be built in memory before its weights are looked at.
_LARGEST = 100_000


@dataclass(frozen=True)
class Built:
    """A model, and which of its weights its checkpoint lacks.

    Attributes:
        model: in evaluation mode and without gradients.
        missing: names of the weights that hold random numbers; none of them is needed.
    """

    model: nn.Module
    missing: tuple[str, ...]


def build_model(
    name: str,
    kind: str,
    model_class: str,
    config: Any,
    weights: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
    needed: Callable[[str], bool] = lambda weight: True,
    options: Mapping[str, Any] | None = None,
) -> Built:
    """Build a model from tensors, so that transformers opens no file, adapter or pickle.

    Args:
        name: of the checkpoint, for messages.
        kind: the kind of model, for messages, such as "CLIP".
        model_class: name of the class in transformers.
        config: its configuration.
        weights: the tensors by name; those that the model does not have are ignored.
        dtype: of the model's weights.
        needed: tells by a weight's name whether the model is useless without it.
        options: what the class takes besides its configuration.

    Raises:
        InfoscopeError: the configuration describes no such model, a weight that is needed is missing, has another
            shape, is of whole numbers, complex or of eight bits, or is not finite; memory is short.
    """
    import transformers

    # transformers would take quantised numbers for the weights themselves, without their scale.
    if odd := sorted(
        weight
        for weight, tensor in weights.items()
        if tensor.dtype not in _FLOATS and weight.rpartition(".")[2] not in _COUNTS
    ):
        raise InfoscopeError(
            f"{name}: {few(odd)} hold {str(weights[odd[0]].dtype).removeprefix('torch.')}, expected floating-point "
            "numbers of 16 bits or more; name the model it was made from"
        )

    try:
        model, report = getattr(transformers, model_class).from_pretrained(
            None,
            config=config,
            state_dict=dict(weights),
            dtype=dtype,
            attn_implementation="sdpa",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **(options or {}),
        )
    except Exception as error:  # a well-formed configuration may still describe no model, in many ways
        if ran_out_of_memory(error):
            raise no_memory_to(f"build {name}") from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InfoscopeError(
            f"{name}: no {kind} model can be built from its config.json ({reason}); fetch it again"
        ) from error
    for tensor in chain(model.parameters(), model.buffers()):
        # safetensors maps the file, so a later write to it would change the model while it is in use.
        tensor.data = tensor.data.clone()
    mismatched = [weight for weight, *_ in report["mismatched_keys"]]
    for problem, names in (("are missing", report["missing_keys"]), ("have another shape", mismatched)):
        if wanted := sorted(filter(needed, names)):
            raise InfoscopeError(
                f"{name}: the weights do not fit its config.json as a {kind} model: "
                f"{_some(wanted)} {problem}; fetch the model again"
            )
    broken = sorted(weight for weight, values in model.named_parameters() if not values.isfinite().all())
    if broken:
        raise InfoscopeError(
            f"{name}: {_some(broken)} hold NaN or infinity as {str(dtype).removeprefix('torch.')}; "
            "fetch the model again or choose another --precision"
        )
    return Built(model.eval().requires_grad_(False), tuple(sorted({*report["missing_keys"], *mismatched})))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and load reports off the terminal; what they say is checked by `build_model`.

    They are let through where the logger ``infoscope`` takes debugging messages, as under ``--verbose``.
    """
    from transformers.utils import logging as transformers_logging

    if _LOGGER.isEnabledFor(logging.DEBUG):
        yield
        return
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def load_backbone(
    model: str | Path,
    block: int,
    *,
    input_side: int | None = None,
    device: str = "auto",
    revision: str | None = None,
    precision: Precision = "float32",
    reads: Reads = "output",
) -> Backbone:
    """Load a vision transformer to be read at one block.

    On a GPU, TF32 is turned off for the whole process unless asked for, since scores are compared across machines.

    Args:
        model: a directory in Hugging Face layout, which is never looked up on the network, or a hub id.
        block: 0-based; negative counts from the end, so -1 is the last block.
        input_side: pixels per side of the input, a multiple of the patch size. By default the model's own size cut
            to whole patches (SigLIP so400m/14 at 384 works at 378), 224 for DINOv2, the square nearest below the
            trained number of patches for SigLIP 2 NaFlex. Elsewhere learned position tables are interpolated.
        device: ``auto`` (a CUDA GPU where there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ...
        revision: branch, tag or commit on the hub.
        precision: of the forward pass: ``float32`` is the reference; ``bf16`` and ``fp16`` are for GPUs; ``tf32`` lets
            a CUDA GPU multiply float32 with 10 bits of mantissa, the SAE's products included.
        reads: what to read at the block: its ``output``, or its MLP's ``neurons`` after the nonlinearity.

    Raises:
        InfoscopeError: the model is not found, incomplete, of an unknown type or not finite, its weights do not
            fit its configuration, or the block, side or device does not exist.

    Example:
        >>> load_backbone("no/such/directory", block=0)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such model: no/such/directory; name a directory, or a hub id like
        openai/clip-vit-base-patch16
    """
    checkpoint = find_checkpoint(model, revision)
    torch_device = find_device(device)
    model_type = checkpoint.config.get("model_type")
    if not isinstance(model_type, str):
        raise InfoscopeError(f"{model}: config.json names no model_type; name a model saved by transformers")
    try:
        family = family_of(model_type)
    except InfoscopeError as error:
        raise InfoscopeError(f"{model}: {error}") from None
    with quiet():
        config = _vision_config(checkpoint, family, model_type)
        _check_geometry(checkpoint, config)
        block = _resolve_block(block, int(config.num_hidden_layers), checkpoint)
        side = _input_side(input_side, config, family, checkpoint)
        mean, std = read_normalisation(checkpoint.directory, family)
        states = states_of(checkpoint.weight_files)
        weights = checkpoint.read_weights()
        try:
            moved = take_moved(weights)
        except InfoscopeError as error:
            raise InfoscopeError(f"{checkpoint.name}: {error}") from None
        built = build_model(
            checkpoint.name,
            family.name,
            family.model_class,
            config,
            weights,
            weights_dtype(precision, torch_device),
            _is_needed,
            family.model_options,
        )
    if torch_device.type == "cuda":
        set_multiplication(precision)
    backbone = Backbone(
        name=checkpoint.name,
        revision=checkpoint.revision,
        block=block,
        patch_size=config.patch_size,
        input_side=side,
        width=config.hidden_size,
        prefix_tokens=family.prefix_tokens(config),
        mean=mean,
        std=std,
        model=built.model.to(torch_device),
        layout=family,
        weight_files=checkpoint.weight_files,
        weight_states=states,
        precision=precision,
        missing_weights=built.missing,
    )
    if moved is not None:
        park(backbone, moved)
    _LOGGER.debug(
        "model %s: %s from %s, block %d of %d, side %d, %s on %s",
        checkpoint.name, family.name, checkpoint.directory, block, config.num_hidden_layers, side, precision,
        torch_device,
    )  # fmt: skip
    return backbone if reads == "output" else backbone.at(reads=reads)


def _vision_config(checkpoint: Checkpoint, family: Family, model_type: str) -> Any:
    """The configuration of the vision part, as the class the family's model takes."""
    import transformers

    if "quantization_config" in checkpoint.config:
        raise InfoscopeError(f"{checkpoint.name} is quantised; name the model it was made from")
    try:
        config = transformers.CONFIG_MAPPING[model_type].from_dict(dict(checkpoint.config))
        config = getattr(config, "vision_config", config)
        wanted = getattr(transformers, family.model_class).config_class
        if not isinstance(config, wanted):
            config = wanted.from_dict(config.to_dict() | {"model_type": wanted.model_type})
    except Exception as error:  # each configuration class checks its fields in its own way
        if ran_out_of_memory(error):
            raise no_memory_to(f"build {checkpoint.name}") from error
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]} ..."
        raise InfoscopeError(
            f"{checkpoint.name}: config.json does not describe a {family.name} model ({reason}); fetch it again"
        ) from error
    return config


def _check_geometry(checkpoint: Checkpoint, config: Any) -> None:
    """Square images of square patches in three colours; pairs of equal sides become one number."""
    for key in ("image_size", "patch_size"):
        size = getattr(config, key, None)
        if isinstance(size, list | tuple) and all(isinstance(side, int) for side in size):
            if len(set(size)) != 1:
                raise InfoscopeError(f"{checkpoint.name} has {key} {shown(size)}; only square ones have a square grid")
            setattr(config, key, size[0])
    for key in ("image_size", "patch_size", "hidden_size", "num_hidden_layers"):
        size = getattr(config, key, None)
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 0 < size < _LARGEST):
            raise InfoscopeError(
                f"{checkpoint.name}: config.json says {key} {shown(size)}, expected a whole number above 0; correct it"
            )
    if config.num_channels != 3:
        raise InfoscopeError(f"{checkpoint.name} takes {config.num_channels} channels; only RGB models are read")


def _resolve_block(block: int, blocks: int, checkpoint: Checkpoint) -> int:
    if not -blocks <= block < blocks:
        raise InfoscopeError(
            f"--block {block} is out of range: {checkpoint.name} has {blocks} blocks, "
            f"so choose 0 to {blocks - 1}, or -{blocks} to -1 from the end"
        )
    return block % blocks


def _input_side(side: int | None, config: Any, family: Family, checkpoint: Checkpoint) -> int:
    patch = config.patch_size
    if side is None:
        return family.input_side(config)
    if side < patch or side % patch:
        below = max(side // patch, 1) * patch
        raise InfoscopeError(
            f"input side {side} is not a whole number of {checkpoint.name}'s patches of {patch} pixels; "
            f"choose {below} or {below + patch}"
        )
    return side


def _is_needed(name: str) -> bool:
    """Whether a weight takes part before the output of the last block."""
    after = name.split(".")[0] in ("pooler", "head", "layernorm", "post_layernorm", "norm")
    return not after and not name.endswith("mask_token")
