"""overcomplete: a state dict, or the module itself as a pickle.

Source: overcomplete 0.3, ``sae/*.py``. A state dict says neither the class's k nor how its dictionary was normalised;
the default, unit rows, is taken. A pickled module says both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from infoscope.dictionaries.activations import Activation, JumpReLU, ReLU, TopK
from infoscope.dictionaries.formats.files import TorchFile
from infoscope.dictionaries.formats.folding import transposed
from infoscope.dictionaries.formats.held import Tensors
from infoscope.dictionaries.formats.pickles import Inert
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError

NAME = "overcomplete"


def recognises(file: TorchFile) -> bool:
    """Whether it is a file of this project."""
    return any(key.startswith("dictionary.") for key in file.tensors)


def read(file: TorchFile, k: int | None) -> SparseAutoencoder:
    """The SAE, on the CPU.

    Args:
        file: the file.
        k: how many codes it keeps; needed for a TopK state dict.

    Raises:
        InfoscopeError: k is missing, or the encoder is no single linear layer, or the dictionary's parts are not whole.
    """
    kind = None if file.module is None else file.module.kind.rpartition(".")[2]
    activation_needs = _check_kind(file, kind)
    held = file.held()
    W_dec = _dictionary(file, held)
    W_enc, b_enc = _encoder(file, held, W_dec)
    activation = _activation(file, held, activation_needs, k, W_enc.shape[-1])
    held.close(f"overcomplete's {activation_needs} SAE")
    return SparseAutoencoder(
        W_enc,
        b_enc,
        W_dec,
        torch.zeros(W_dec.shape[-1], dtype=torch.float64),
        activation,
        name=file.name,
        format=NAME,
        sha256=file.sha256,
    )


def _check_kind(file: TorchFile, kind: str | None) -> str:
    """What it is by its activation: relu, topk, batchtopk or jump."""
    if "thresholds" in file.tensors:
        return "jump"
    if kind is None and "Q" not in file.tensors:
        return "topk"
    known = {"SAE": "relu", "TopKSAE": "topk", "RATopKSAE": "topk", "BatchTopKSAE": "batchtopk"}
    if kind not in known:
        raise InfoscopeError(
            f"SAE {file.name} is a {kind or 'QSAE'} of overcomplete, which is not read; known are {', '.join(known)} "
            "and JumpSAE"
        )
    return known[kind]


def _dictionary(file: TorchFile, held: Tensors) -> Tensor:
    module = _module(file, "dictionary")
    state = {} if module is None else module.state
    fused = state.get("_fused_dictionary")
    if isinstance(fused, Tensor) and not state.get("training", True):
        parts = {name for name in held.names if name.startswith("dictionary.")}
        held.harmless(dict.fromkeys(parts, "what the fused dictionary was made of"))
        return Tensors({"_fused_dictionary": fused}, file.path).take("_fused_dictionary")[0]
    if "dictionary._weights" not in held:
        raise InfoscopeError(
            f"SAE {file.name} keeps an archetypal dictionary in parts, and not how they were joined; pickle the module "
            "after module.eval()"
        )
    weights, multiplier = held.take("dictionary._weights", "dictionary.multiplier")
    if weights.ndim != 2:
        raise InfoscopeError(
            f"{file.path}: dictionary._weights has shape {list(weights.shape)}, expected two axes"
            "; save the dictionary again"
        )
    if multiplier.numel() != 1:
        raise InfoscopeError(
            f"{file.path}: dictionary.multiplier has shape {list(multiplier.shape)}, expected one number; save the "
            "dictionary again"
        )
    normalization = "normalize_l2" if module is None else _name(module.state.get("normalization"))
    return _normalised(weights, normalization, file) * multiplier.exp().reshape(())


def _normalised(weights: Tensor, how: str, file: TorchFile) -> Tensor:
    """The rows as the project's own layer has them in training mode."""
    order = 1.0 if how.endswith("l1") else 2.0
    norm: Tensor = weights.norm(p=order, dim=1, keepdim=True)
    if how in ("normalize_l2", "normalize_l1"):
        return weights.div(norm + 1e-8)
    if how in ("normalize_max_l2", "normalize_max_l1"):
        return weights.div(norm.max())
    if how == "normalize_identity":
        return weights
    raise InfoscopeError(
        f"SAE {file.name} normalises its dictionary by {how}, which is not known; pickle it after eval()"
    )


def _encoder(file: TorchFile, held: Tensors, W_dec: Tensor) -> tuple[Tensor, Tensor]:
    """One linear layer, with a batch norm after it folded in."""
    names = {name.removeprefix("encoder.") for name in held.names if name.startswith("encoder.")}
    if tied := {name for name in names if name.startswith("tied_to.")}:
        weight = W_dec
        _check_tied(file, held, tied)
    elif "weight" in names:
        (weight,) = held.take("encoder.weight")
    elif any(not name.startswith("final_block.") for name in names):
        raise InfoscopeError(
            f"SAE {file.name} has an encoder of more than one linear layer, which is not read; use a linear one"
        )
    else:
        return _final_block(file, held)
    bias = held.take("encoder.bias")[0] if "bias" in names else weight.new_zeros(len(weight))
    return transposed(weight), bias


def _check_tied(file: TorchFile, held: Tensors, tied: set[str]) -> None:
    """The dictionary's tensors are there a second time, under the encoder's name."""
    for name in sorted(tied):
        first = f"dictionary.{name.removeprefix('tied_to.')}"
        if first not in held or not torch.equal(file.tensors[f"encoder.{name}"], file.tensors[first]):
            raise InfoscopeError(
                f"{file.path}: encoder.{name} is not {first}, to which the encoder is tied; save the SAE again"
            )
    held.harmless({f"encoder.{name}": "the dictionary once more" for name in tied})


def _final_block(file: TorchFile, held: Tensors) -> tuple[Tensor, Tensor]:
    weight, bias = held.take("encoder.final_block.0.weight", "encoder.final_block.0.bias")
    norm = {name.rpartition(".")[2] for name in held.names if name.startswith("encoder.final_block.1.")}
    if not norm:
        return transposed(weight), bias
    if "running_var" not in norm:
        raise InfoscopeError(
            f"SAE {file.name} normalises pre-activations token by token (LayerNorm), which is not read; use a "
            "linear encoder"
        )
    names = ("weight", "bias", "running_mean", "running_var")
    slope, shift, mean, variance = held.take(*(f"encoder.final_block.1.{name}" for name in names))
    held.harmless({"encoder.final_block.1.num_batches_tracked": "training alone"})
    slope = slope / (variance + 1e-5).sqrt()  # torch's default eps, which the project does not change
    if weight.ndim != 2 or any(part.shape != weight.shape[:1] for part in (bias, slope, shift, mean)):
        return transposed(weight), bias.new_zeros(0)  # the SAE's own check of shapes names it
    return transposed(weight * slope[:, None]), (bias - mean) * slope + shift


def _activation(file: TorchFile, held: Tensors, needs: str, k: int | None, features: int) -> Activation:
    state: Mapping[str, Any] = {} if file.module is None else file.module.state
    if needs == "relu":
        return ReLU()
    if needs == "topk":
        kept = state.get("top_k", k)
        if not isinstance(kept, int) or isinstance(kept, bool):
            raise InfoscopeError(
                f"SAE {file.name} does not say its k: overcomplete's state dicts do not hold it; give it: "
                "load_sae(..., k=32)"
            )
        return TopK(kept)
    if needs == "batchtopk":
        running = state.get("running_threshold")
        if not isinstance(running, Tensor):
            raise InfoscopeError(f"SAE {file.name} has no running threshold: it was never trained; train it first")
        threshold = Tensors({"running_threshold": running}, file.path).threshold("running_threshold", features)
    else:
        threshold = held.take("thresholds")[0].exp()
    # The project keeps a code that is equal to its threshold.
    single = threshold.to(torch.float32)
    return JumpReLU(torch.nextafter(single, torch.full_like(single, -torch.inf)))


def _module(file: TorchFile, name: str) -> Inert | None:
    inside = {} if file.module is None else file.module.state.get("_modules")
    held = inside.get(name) if isinstance(inside, dict) else None
    return held if isinstance(held, Inert) else None


def _name(function: Any) -> str:
    """The name of a pickled function."""
    kind = getattr(function, "kind", repr(function))
    return str(kind).rpartition(".")[2]
