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
from infoscope.dictionaries.formats.files import TorchFile, take
from infoscope.dictionaries.formats.folding import transposed
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
    W_dec = _dictionary(file)
    W_enc, b_enc = _encoder(file, W_dec)
    return SparseAutoencoder(
        W_enc,
        b_enc,
        W_dec,
        torch.zeros(W_dec.shape[-1], dtype=torch.float64),
        _activation(file, activation_needs, k, b_enc),
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


def _dictionary(file: TorchFile) -> Tensor:
    held = _module(file, "dictionary")
    state = {} if held is None else held.state
    fused = state.get("_fused_dictionary")
    if isinstance(fused, Tensor) and not state.get("training", True):
        return fused.detach().to(torch.float64)
    if "dictionary._weights" not in file.tensors:
        raise InfoscopeError(
            f"SAE {file.name} keeps an archetypal dictionary in parts, and not how they were joined; pickle the module "
            "after module.eval()"
        )
    weights, multiplier = take(file.tensors, ("dictionary._weights", "dictionary.multiplier"), file.path)
    if weights.ndim != 2:
        raise InfoscopeError(
            f"{file.path}: dictionary._weights has shape {list(weights.shape)}, expected two axes"
            "; save the dictionary again"
        )
    normalization = "normalize_l2" if held is None else _name(held.state.get("normalization"))
    return _normalised(weights, normalization, file) * multiplier.exp()


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


def _encoder(file: TorchFile, W_dec: Tensor) -> tuple[Tensor, Tensor]:
    """One linear layer, with a batch norm after it folded in."""
    tensors = {key.removeprefix("encoder."): item for key, item in file.tensors.items() if key.startswith("encoder.")}
    if any(key.startswith("tied_to.") for key in tensors):
        weight = W_dec
    elif "weight" in tensors:
        (weight,) = take(file.tensors, ("encoder.weight",), file.path)
    elif any(not key.startswith("final_block.") for key in tensors):
        raise InfoscopeError(
            f"SAE {file.name} has an encoder of more than one linear layer, which is not read; use a linear one"
        )
    else:
        return _final_block(file)
    bias = take(file.tensors, ("encoder.bias",), file.path)[0] if "bias" in tensors else weight.new_zeros(len(weight))
    return transposed(weight), bias


def _final_block(file: TorchFile) -> tuple[Tensor, Tensor]:
    keys = ("encoder.final_block.0.weight", "encoder.final_block.0.bias")
    weight, bias = take(file.tensors, keys, file.path)
    norm = {key.rpartition(".")[2] for key in file.tensors if key.startswith("encoder.final_block.1.")}
    if not norm:
        return transposed(weight), bias
    if "running_var" not in norm:
        raise InfoscopeError(
            f"SAE {file.name} normalises pre-activations token by token (LayerNorm), which is not read; use a "
            "linear encoder"
        )
    names = ("weight", "bias", "running_mean", "running_var")
    slope, shift, mean, variance = take(file.tensors, [f"encoder.final_block.1.{name}" for name in names], file.path)
    slope = slope / (variance + 1e-5).sqrt()  # torch's default eps, which the project does not change
    return transposed(weight * slope[:, None]), (bias - mean) * slope + shift


def _activation(file: TorchFile, needs: str, k: int | None, b_enc: Tensor) -> Activation:
    state: Mapping[str, Any] = {} if file.module is None else file.module.state
    if needs == "relu":
        return ReLU()
    if needs == "topk":
        kept = state.get("top_k", k)
        if not isinstance(kept, int):
            raise InfoscopeError(
                f"SAE {file.name} does not say its k: overcomplete's state dicts do not hold it; give it: "
                "load_sae(..., k=32)"
            )
        return TopK(kept)
    if needs == "batchtopk":
        running = state.get("running_threshold")
        if not isinstance(running, Tensor):
            raise InfoscopeError(f"SAE {file.name} has no running threshold: it was never trained; train it first")
        threshold = running.detach().to(torch.float64).expand(b_enc.shape)
    else:
        threshold = take(file.tensors, ("thresholds",), file.path)[0].exp()
    # The project keeps a code that is equal to its threshold.
    single = threshold.to(torch.float32)
    return JumpReLU(torch.nextafter(single, torch.full_like(single, -torch.inf)))


def _module(file: TorchFile, name: str) -> Inert | None:
    held = None if file.module is None else (file.module.state.get("_modules") or {}).get(name)
    return held if isinstance(held, Inert) else None


def _name(function: Any) -> str:
    """The name of a pickled function."""
    kind = getattr(function, "kind", repr(function))
    return str(kind).rpartition(".")[2]
