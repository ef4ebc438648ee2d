"""overcomplete: a state dict, or the module itself as a pickle.

Source: overcomplete 0.3, ``sae/*.py``. A state dict holds neither k nor how the dictionary was normalised, for which
the default is taken: unit rows. A pickled module holds both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from infoscope.dictionaries.activations import Activation, JumpReLU, ReLU, TopK
from infoscope.dictionaries.formats.accounts import Tensors
from infoscope.dictionaries.formats.files import TorchFile, transposed
from infoscope.dictionaries.formats.pickles import Inert
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError

NAME = "overcomplete"


def recognises(file: TorchFile) -> bool:
    """Whether a file is of this project."""
    return any(key.startswith("dictionary.") for key in file.tensors)


def read(file: TorchFile) -> SparseAutoencoder:
    """The SAE, on the CPU.

    Raises:
        InfoscopeError: k is missing, the encoder is not a single linear layer, or the dictionary is incomplete.
    """
    kind = None if file.module is None else file.module.kind.rpartition(".")[2]
    function = _function(file, kind)
    tensors = file.state_dict()
    W_dec = _dictionary(file, tensors)
    W_enc, b_enc = _encoder(file, tensors, W_dec)
    activation = _activation(file, tensors, function, W_enc.shape[-1])
    tensors.close(f"overcomplete's {function} SAE")
    b_dec = torch.zeros(W_dec.shape[-1], dtype=torch.float64)
    return file.sae(NAME, (W_enc, b_enc, W_dec, b_dec), activation)


def _function(file: TorchFile, kind: str | None) -> str:
    """The activation function: relu, topk, batchtopk or jump."""
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


def _dictionary(file: TorchFile, tensors: Tensors) -> Tensor:
    module = _module(file, "dictionary")
    state = {} if module is None else module.state
    # After eval() the module holds its dictionary ready for use, however it was parametrised.
    fused = state.get("_fused_dictionary")
    if isinstance(fused, Tensor) and not state.get("training", True):
        parts = {name for name in tensors.names if name.startswith("dictionary.")}
        tensors.harmless(dict.fromkeys(parts, "the parts of the fused dictionary"))
        return Tensors({"_fused_dictionary": fused}, file.path).take("_fused_dictionary")[0]
    if "dictionary._weights" not in tensors:
        raise InfoscopeError(
            f"SAE {file.name} keeps an archetypal dictionary in parts, and not how they were joined; pickle the module "
            "after module.eval()"
        )
    weights, multiplier = tensors.take("dictionary._weights", "dictionary.multiplier")
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
    """The rows as the project's own layer normalises them in training mode."""
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


def _encoder(file: TorchFile, tensors: Tensors, W_dec: Tensor) -> tuple[Tensor, Tensor]:
    """One linear layer, with a batch norm after it folded in."""
    names = {name.removeprefix("encoder.") for name in tensors.names if name.startswith("encoder.")}
    if tied := {name for name in names if name.startswith("tied_to.")}:
        weight = W_dec
        _check_tied(file, tensors, tied)
    elif "weight" in names:
        (weight,) = tensors.take("encoder.weight")
    elif any(not name.startswith("final_block.") for name in names):
        raise InfoscopeError(
            f"SAE {file.name} has an encoder of more than one linear layer, which is not read; use a linear one"
        )
    else:
        return _final_block(file, tensors)
    bias = tensors.take("encoder.bias")[0] if "bias" in names else weight.new_zeros(len(weight))
    return transposed(weight), bias


def _check_tied(file: TorchFile, tensors: Tensors, tied: set[str]) -> None:
    """Check that the tied encoder's tensors are the dictionary's, which the file repeats under the encoder's name."""
    for name in sorted(tied):
        first = f"dictionary.{name.removeprefix('tied_to.')}"
        if first not in tensors or not torch.equal(file.tensors[f"encoder.{name}"], file.tensors[first]):
            raise InfoscopeError(
                f"{file.path}: encoder.{name} is not {first}, to which the encoder is tied; save the SAE again"
            )
    tensors.harmless({f"encoder.{name}": "the dictionary again" for name in tied})


def _final_block(file: TorchFile, tensors: Tensors) -> tuple[Tensor, Tensor]:
    weight, bias = tensors.take("encoder.final_block.0.weight", "encoder.final_block.0.bias")
    norm = {name.rpartition(".")[2] for name in tensors.names if name.startswith("encoder.final_block.1.")}
    if not norm:
        return transposed(weight), bias
    if "running_var" not in norm:
        raise InfoscopeError(
            f"SAE {file.name} normalises pre-activations token by token (LayerNorm), which is not read; use a "
            "linear encoder"
        )
    names = ("weight", "bias", "running_mean", "running_var")
    slope, shift, mean, variance = tensors.take(*(f"encoder.final_block.1.{name}" for name in names))
    tensors.harmless({"encoder.final_block.1.num_batches_tracked": "training alone"})
    # In inference a batch norm is an affine map, which goes into the weights.
    slope = slope / (variance + 1e-5).sqrt()  # torch's default eps, which the project does not change
    if weight.ndim != 2 or any(part.shape != weight.shape[:1] for part in (bias, slope, shift, mean)):
        return transposed(weight), bias.new_zeros(0)  # the check of shapes in `SparseAutoencoder` names it
    return transposed(weight * slope[:, None]), (bias - mean) * slope + shift


def _activation(file: TorchFile, tensors: Tensors, function: str, features: int) -> Activation:
    state: Mapping[str, Any] = {} if file.module is None else file.module.state
    if function == "relu":
        return ReLU()
    if function == "topk":
        k = state.get("top_k", file.k)
        if not isinstance(k, int) or isinstance(k, bool):
            raise InfoscopeError(
                f"SAE {file.name} does not say its k: overcomplete's state dicts do not hold it; give it: "
                "load_sae(..., k=32)"
            )
        return TopK(k)
    if function == "batchtopk":
        running = state.get("running_threshold")
        if not isinstance(running, Tensor):
            raise InfoscopeError(f"SAE {file.name} has no running threshold: it was never trained; train it first")
        threshold = Tensors({"running_threshold": running}, file.path).threshold("running_threshold", features)
    else:
        threshold = tensors.take("thresholds")[0].exp()
    # The project keeps a code that equals its threshold, so the threshold here is the next number below it.
    single = threshold.to(torch.float32)
    return JumpReLU(torch.nextafter(single, torch.full_like(single, -torch.inf)))


def _module(file: TorchFile, name: str) -> Inert | None:
    inside = {} if file.module is None else file.module.state.get("_modules")
    module = inside.get(name) if isinstance(inside, dict) else None
    return module if isinstance(module, Inert) else None


def _name(function: Any) -> str:
    """The name of a pickled function."""
    kind = getattr(function, "kind", repr(function))
    return str(kind).rpartition(".")[2]
