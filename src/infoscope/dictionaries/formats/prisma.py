"""ViT-Prisma: ``config.json`` and ``weights.pt`` or ``n_images_*.pt``, or one file with both.

Source: ViT-Prisma, ``sae/sae.py`` and ``sae/config.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from infoscope.dictionaries.activations import Activation, ReLU, TopK
from infoscope.dictionaries.formats.files import TorchFile, check_sizes, take
from infoscope.dictionaries.formats.folding import fold_centring
from infoscope.dictionaries.formats.saelens import gate, token_norm
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.formats.vit_configs import config_and_weights
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError

NAME = "prisma"


def recognises(file: TorchFile) -> bool:
    """Whether it is a file of this project."""
    config, tensors = _parts(file)
    return ("hook_point_layer" in config or "hook_point" in config) and bool({"W_enc", "W_dec"} & tensors.keys())


def read(file: TorchFile, k: int | None) -> SparseAutoencoder:
    """The SAE, on the CPU.

    Args:
        file: the file.
        k: not needed: the configuration names it.

    Raises:
        InfoscopeError: a tensor is missing, or the configuration asks for what is not known.
    """
    config, tensors = _parts(file)
    architecture = config.get("architecture", "standard")
    if architecture not in ("standard", "gated"):
        raise InfoscopeError(f"SAE {file.name}: architecture {architecture!r} is not known; known: standard, gated")
    W_enc, W_dec, b_dec = take(tensors, ("W_enc", "W_dec", "b_dec"), file.path)
    check_sizes(file.path, W_enc, config, "d_in", "d_sae")
    if architecture == "gated":
        b_gate, r_mag, b_mag = take(tensors, ("b_gate", "r_mag", "b_mag"), file.path)
        b_enc = b_gate
        activation: Activation = gate(b_gate, r_mag, b_mag)
    else:
        (b_enc,) = take(tensors, ("b_enc",), file.path)
        activation = _activation(config, file.name)
    return SparseAutoencoder(
        W_enc,
        fold_centring(W_enc, b_enc, b_dec),
        W_dec,
        b_dec,
        activation,
        # Its own loader has this default, for files that do not say.
        token_norm=token_norm(config.get("normalize_activations", "layer_norm"), file.name),
        name=file.name,
        format=NAME,
        sha256=file.sha256,
        site=_site(config),
    )


def _parts(file: TorchFile) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    both = config_and_weights(file)
    return (file.config, file.tensors) if both is None else both


def _activation(config: Mapping[str, Any], name: str) -> Activation:
    function = config.get("activation_fn_str", "relu")
    options = config.get("activation_fn_kwargs") or {}
    if function == "relu":
        return ReLU()
    k = options.get("k") if isinstance(options, dict) else None
    if function == "topk" and isinstance(k, int) and "postact_fn" not in options:
        return TopK(k)
    raise InfoscopeError(
        f"SAE {name}: activation function {function} with {options} is not known; known are relu, and topk with k"
    )


def _site(config: Mapping[str, Any]) -> dict[str, Any] | None:
    layer = config.get("hook_point_layer")
    if isinstance(layer, list) and len(layer) == 1:
        layer = layer[0]
    hook = config.get("hook_point")
    if hook is None and isinstance(layer, int):
        hook = f"blocks.{layer}.{config.get('layer_subtype', 'hook_resid_post')}"
    if config.get("cls_token_only"):
        tokens: str | None = "cls"
    elif config.get("use_patches_only"):
        tokens = "patch"
    else:
        tokens = "all" if "cls_token_only" in config else None
    return make_site(model=config.get("model_name"), hook=None if hook is None else str(hook), tokens=tokens)
