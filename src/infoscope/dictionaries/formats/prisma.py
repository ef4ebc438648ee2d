"""ViT-Prisma: ``config.json`` and ``weights.pt`` or ``n_images_*.pt``, or one file with both.

Source: ViT-Prisma, ``sae/sae.py`` and ``sae/config.py``.
"""

from __future__ import annotations

from typing import Any

import torch

from infoscope.dictionaries.activations import Activation, ReLU, TopK
from infoscope.dictionaries.formats.accounts import Settings, Tensors
from infoscope.dictionaries.formats.files import TorchFile, tensors_of
from infoscope.dictionaries.formats.patchsae import accounts, config_and_weights
from infoscope.dictionaries.formats.saelens import gate, token_norm
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.sae import SparseAutoencoder, fold_centring
from infoscope.errors import InfoscopeError, shown

NAME = "prisma"

# Keys that only Prisma's configurations have: with one of them, what the file leaves out has Prisma's default.
_OWN = ("layer_subtype", "cls_token_only", "use_patches_only", "vit_model_cfg", "layer_out_subtype")


def recognises(file: TorchFile) -> bool:
    """Whether a file is of this project."""
    both = config_and_weights(file)
    config, names = (file.config, file.tensors.keys()) if both is None else (both[0], tensors_of(both[1]).keys())
    return ("hook_point_layer" in config or "hook_point" in config) and bool({"W_enc", "W_dec"} & names)


def read(file: TorchFile) -> SparseAutoencoder:
    """The SAE, on the CPU.

    Raises:
        InfoscopeError: a tensor is missing, or the configuration asks for what is not known.
    """
    config, tensors = accounts(file)
    config.refuse(
        ("is_transcoder", "transcoder_with_skip_connection"),
        "so it predicts another place than it reads and has no reconstruction of its tokens; name a sparse autoencoder",
    )
    architecture = config.get("architecture", "standard")
    if architecture not in ("standard", "gated"):
        raise InfoscopeError(
            f"SAE {file.name}: architecture {shown(architecture)} is not known; known: standard, gated"
        )
    W_enc, W_dec, b_dec = tensors.take("W_enc", "W_dec", "b_dec")
    config.sizes(file.path, W_enc, "d_in", "d_sae")
    activation = _activation(config, file.name)
    if architecture == "gated":
        b_gate, r_mag, b_mag = tensors.take("b_gate", "r_mag", "b_mag")
        b_enc = b_gate
        activation = gate(b_gate, r_mag, b_mag)
        tensors.harmless({"b_enc": "every architecture has it; a gated encoder uses b_gate and b_mag instead"})
    else:
        (b_enc,) = tensors.take("b_enc")
    _check_factors(tensors)
    norm = token_norm(_normalised(config, file), file.name)
    # Prisma always subtracts b_dec from tokens; SAELens, whose pickles look the same, says so where it does not.
    centred = config.flag("apply_b_dec_to_input", True)
    site = _site(config)
    tensors.close(f"Prisma's {architecture} architecture with {activation}")
    config.close()
    b_enc = fold_centring(W_enc, b_enc, b_dec) if centred else b_enc
    return file.sae(NAME, (W_enc, b_enc, W_dec, b_dec), activation, site, norm)


def _check_factors(tensors: Tensors) -> None:
    """Refuse the factors of a finetuning, unless all are 1 and so change nothing."""
    if "scaling_factor" not in tensors:
        return
    (factor,) = tensors.take("scaling_factor")
    if not torch.allclose(factor, torch.ones_like(factor)):
        raise InfoscopeError(
            f"{tensors.path} holds a scaling_factor other than 1, which this format does not know; fold it into W_dec "
            "first"
        )


def _normalised(config: Settings, file: TorchFile) -> Any:
    """What is done to each token first; where the file does not say, Prisma's default, if the file is Prisma's."""
    if "normalize_activations" in config:
        return config.get("normalize_activations")
    if any(key in config for key in _OWN):
        return config.get("normalize_activations", "layer_norm")
    raise InfoscopeError(
        f"{config.where} does not say normalize_activations, and what the projects with such a configuration do by "
        f"default differs: add it, as 'layer_norm' (ViT-Prisma's) or 'none' (SAELens's), to read {file.name}"
    )


def _activation(config: Settings, name: str) -> Activation:
    function = config.get("activation_fn_str", "relu")
    options = config.part("activation_fn_kwargs")
    if function not in ("relu", "topk"):
        raise InfoscopeError(
            f"SAE {name}: activation function {shown(function)[1:-1]} is not known; known are relu, and topk with k"
        )
    options.refuse(("postact_fn",), "which is not known; known are relu, and topk with k")
    if function == "topk":
        if "k" not in options:
            raise InfoscopeError(
                f"SAE {name}: activation function topk with {{}} for activation_fn_kwargs names no k; add it there, as "
                '{"k": 32}'
            )
        activation: Activation = TopK(options.needed("k"))
    else:
        options.refuse(("k",), "beside activation function relu; say topk, or leave k out")
        activation = ReLU()
    options.close()
    return activation


def _site(config: Settings) -> dict[str, Any] | None:
    layer = config.get("hook_point_layer")
    if isinstance(layer, list) and len(layer) == 1:
        layer = layer[0]
    layer = layer if isinstance(layer, int) and not isinstance(layer, bool) else None
    hook = config.text("hook_point")
    if hook is None and layer is not None:
        hook = f"blocks.{layer}.{config.text('layer_subtype') or 'hook_resid_post'}"
    # One head's tokens are not the layer's, so the site must say which.
    head = config.whole("hook_point_head_index", least=0)
    if hook is not None and head is not None:
        hook = f"{hook}, head {head}"
    if config.flag("cls_token_only", False):
        tokens: str | None = "cls"
    elif config.flag("use_patches_only", False):
        tokens = "patch"
    else:
        tokens = "all" if "cls_token_only" in config else None
    return make_site(model=config.text("model_name"), hook=hook, tokens=tokens)
