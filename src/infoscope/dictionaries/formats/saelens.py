"""SAELens: ``cfg.json`` and ``sae_weights.safetensors``; version 6, and the flat configuration of those before it.

Source: SAELens 6.54, ``saes/*.py`` and ``handle_pre_6_0_config`` of ``loading/pretrained_sae_loaders.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infoscope.dictionaries.activations import Activation, Gated, JumpReLU, ReLU, TopK
from infoscope.dictionaries.formats.files import check_sizes, file_sha256, read_object, read_safetensors, take
from infoscope.dictionaries.formats.folding import fold_centring, fold_decoder_norm
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.token_norm import TokenNorm
from infoscope.errors import InfoscopeError

NAME = "saelens"
CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
FILES = (CONFIG_FILE, WEIGHTS_FILE)

_REFUSED = {
    "abstopk": "keeps the entries of largest magnitude, of either sign, which no activation function here does",
    "temporal": "encodes a token with the help of those before it",
    "matching_pursuit": "encodes by search, not by one product",
}


def recognises(names: Collection[str]) -> bool:
    """Whether a directory with files of these names looks like an SAE of this format, whole or broken."""
    return WEIGHTS_FILE in names


def read(directory: Path, name: str) -> SparseAutoencoder:
    """The SAE in a directory, on the CPU.

    Args:
        directory: where the files lie.
        name: how the user named it.

    Raises:
        InfoscopeError: a file is missing or broken, or the configuration asks for what cannot be done exactly.
    """
    if not (directory / CONFIG_FILE).is_file():
        raise InfoscopeError(f"SAE {name} has no {CONFIG_FILE}; fetch it again")
    config = read_object(directory / CONFIG_FILE)
    path = directory / WEIGHTS_FILE
    tensors = read_safetensors(path)
    architecture = _architecture(config, name)
    W_enc, W_dec, b_dec = take(tensors, ("W_enc", "W_dec", "b_dec"), path)
    check_sizes(path, W_enc, config, "d_in", "d_sae")
    W_dec = _finetuned(W_dec, tensors, config, path)
    gated = architecture == "gated"
    (b_enc,) = take(tensors, ("b_gate" if gated else "b_enc",), path)
    if gated:
        activation: Activation = gate(*take(tensors, ("b_gate", "r_mag", "b_mag"), path))
    else:
        if config.get("rescale_acts_by_decoder_norm") and architecture in ("topk", "batchtopk", "matryoshka_batchtopk"):
            W_enc, b_enc, W_dec = fold_decoder_norm(W_enc, b_enc, W_dec)
        activation = _activation(architecture, config, tensors, path)
    if _flag(config, "apply_b_dec_to_input", True, name):
        b_enc = fold_centring(W_enc, b_enc, b_dec)
    return SparseAutoencoder(
        W_enc,
        b_enc,
        W_dec,
        b_dec,
        activation,
        token_norm=token_norm(config.get("normalize_activations"), name),
        name=name,
        format=NAME,
        sha256=file_sha256(path),
        site=_site(config),
    )


def gate(b_gate: Tensor, r_mag: Tensor, b_mag: Tensor) -> Gated:
    """The gate of ``x W_enc + b_gate > 0`` and the magnitude ``exp(r_mag) x W_enc + b_mag``, shared encoder."""
    slope = r_mag.exp()
    return Gated(slope, b_mag - slope * b_gate if b_mag.shape == slope.shape == b_gate.shape else b_mag)


def token_norm(kind: Any, name: str) -> TokenNorm | None:
    """SAELens's and Prisma's ``normalize_activations``.

    Raises:
        InfoscopeError: it needs a scale that is not in the file, or is unknown.
    """
    if kind in (None, False, "none"):
        return None
    if kind == "layer_norm":
        return TokenNorm("layer_norm", 1e-5)
    if kind == "constant_norm_rescale":
        return TokenNorm("unit_norm", 0.0)
    if kind in (True, "expected_average_only_in", "covariance_whitening"):
        raise InfoscopeError(
            f"SAE {name} was trained on tokens scaled by their statistics over its training set "
            f"(normalize_activations {kind}), which its files do not hold; fold them into the weights with SAELens, "
            "save it again and name that"
        )
    raise InfoscopeError(f"SAE {name}: normalize_activations {kind!r} is not known; convert it with its own project")


def _architecture(config: Mapping[str, Any], name: str) -> str:
    architecture = config.get("architecture", "standard")
    function = config.get("activation_fn_str", config.get("activation_fn", "relu"))
    options = config.get("activation_fn_kwargs") or {}
    if architecture == "standard" and function == "topk" and "k" in options:
        architecture = "topk"
    if architecture in ("standard", "gated") and function != "relu":
        raise InfoscopeError(f"SAE {name}: activation function {function} is not known; known are relu and topk")
    if extra := [key for key in options if key != "k"]:
        raise InfoscopeError(
            f"SAE {name}: activation_fn_kwargs has {', '.join(extra)}, which is not known"
            "; save the SAE without, or as another format of docs/sae-formats.md"
        )
    if "transcoder" in str(architecture):
        raise InfoscopeError(
            f"SAE {name} is a {architecture}: it predicts another place than it reads, so it has no reconstruction of "
            "its tokens; name a sparse autoencoder"
        )
    if architecture in _REFUSED:
        raise InfoscopeError(f"SAE {name} is of architecture {architecture}: it {_REFUSED[architecture]}; use another")
    if architecture not in ("standard", "topk", "jumprelu", "gated", "batchtopk", "matryoshka_batchtopk"):
        raise InfoscopeError(
            f"SAE {name}: architecture {architecture!r} is not known; known are standard, topk, jumprelu, gated, "
            "batchtopk and matryoshka_batchtopk"
        )
    return str(architecture)


def _activation(
    architecture: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> ReLU | TopK | JumpReLU:
    if architecture == "standard":
        return ReLU()
    if architecture == "topk":
        k = config.get("k", (config.get("activation_fn_kwargs") or {}).get("k"))
        if not isinstance(k, int) or isinstance(k, bool):
            raise InfoscopeError(f"{path.with_name(CONFIG_FILE)}: k is {k!r}, expected a whole number; correct it")
        return TopK(k)
    if architecture == "jumprelu":
        if "threshold" not in tensors and "log_threshold" in tensors:
            return JumpReLU(take(tensors, ("log_threshold",), path)[0].exp())
        return JumpReLU(take(tensors, ("threshold",), path)[0])
    # A checkpoint in the middle of training; the finished one is saved as jumprelu.
    (threshold,) = take(tensors, ("topk_threshold",), path)
    return JumpReLU(threshold.expand(tensors["b_enc"].shape).clone())


def _finetuned(W_dec: Tensor, tensors: Mapping[str, Tensor], config: Mapping[str, Any], path: Path) -> Tensor:
    """The decoder with the factors of a finetuning after the training, where there was one."""
    if "scaling_factor" not in tensors:
        return W_dec
    (factor,) = take(tensors, ("scaling_factor",), path)
    if torch.allclose(factor, torch.ones_like(factor)):
        return W_dec
    if not config.get("finetuning_scaling_factor"):
        raise InfoscopeError(
            f"{path} holds a scaling_factor, but {CONFIG_FILE} does not say finetuning_scaling_factor; add true or "
            "false there"
        )
    if factor.shape != W_dec.shape[:1]:
        raise InfoscopeError(
            f"{path}: scaling_factor has shape {list(factor.shape)}, expected {list(W_dec.shape[:1])}"
            "; fetch the SAE again, or save it as another format of docs/sae-formats.md"
        )
    return W_dec * factor[:, None]


def _flag(config: Mapping[str, Any], key: str, default: bool, name: str) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise InfoscopeError(f"SAE {name}: {key} is {value!r}, expected true or false; correct it")
    return value


def _site(config: Mapping[str, Any]) -> dict[str, Any] | None:
    metadata = config.get("metadata")
    places = {**config, **(metadata if isinstance(metadata, dict) else {})}
    hook = places.get("hook_name") or places.get("hook_point")
    return make_site(model=places.get("model_name"), hook=None if hook is None else str(hook))
