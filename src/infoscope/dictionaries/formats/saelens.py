"""SAELens checkpoints, read and written."""

from __future__ import annotations

import errno
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from infoscope.dictionaries.activations import Activation, Gated, JumpReLU, ReLU, TopK
from infoscope.dictionaries.formats.accounts import Settings, Tensors
from infoscope.dictionaries.formats.files import file_sha256, read_object, read_weights
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.sae import SparseAutoencoder, TokenNorm, fold_centring, fold_decoder_norm
from infoscope.errors import InfoscopeError, few, shown
from infoscope.runtime.atomic import atomic_write
from infoscope.runtime.json_values import write_json

NAME = "saelens"
CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
SCALER_FILE = "activation_scaler.json"
FILES = (CONFIG_FILE, WEIGHTS_FILE)
BESIDE = (SCALER_FILE,)

_BATCHED = ("batchtopk", "matryoshka_batchtopk")
_KNOWN = ("standard", "topk", "jumprelu", "gated", *_BATCHED)

_SCALED = "expected_average_only_in"

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
        directory: where the files are.
        name: how the user named it.

    Raises:
        InfoscopeError: a file is missing or damaged, or the configuration asks for what cannot be done exactly.
    """
    if not (directory / CONFIG_FILE).is_file():
        raise InfoscopeError(f"SAE {name} has no {CONFIG_FILE}; fetch it again")
    config = Settings(read_object(directory / CONFIG_FILE), str(directory / CONFIG_FILE), {"metadata"})
    path = directory / WEIGHTS_FILE
    tensors = read_weights(path)
    architecture = _architecture(config, name)
    # Then codes are in units of the decoder's rows, and so is what top-k compares.
    rescaled = config.flag("rescale_acts_by_decoder_norm", False)
    if rescaled and architecture not in ("topk", *_BATCHED):
        config.refuse(("rescale_acts_by_decoder_norm",), f"which architecture {architecture} does not know; correct it")
    norm = _norm(directory, config, tensors, name, rescaled)
    W_enc, W_dec, b_dec = tensors.take("W_enc", "W_dec", "b_dec")
    config.sizes(path, W_enc, "d_in", "d_sae")
    W_dec = _finetuned(W_dec, tensors, config)
    gated = architecture == "gated"
    (b_enc,) = tensors.take("b_gate" if gated else "b_enc")
    if gated:
        activation: Activation = gate(*tensors.take("b_gate", "r_mag", "b_mag"))
    else:
        if rescaled:
            W_enc, b_enc, W_dec = fold_decoder_norm(W_enc, b_enc, W_dec)
        activation = _activation(architecture, config, tensors, W_enc.shape[-1])
    if config.flag("apply_b_dec_to_input", True):
        b_enc = fold_centring(W_enc, b_enc, b_dec)
    site = _site(config)
    tensors.close(f"SAELens's {architecture} architecture")
    config.close()
    names: dict[str, Any] = {"name": name, "format": NAME, "sha256": file_sha256(path)}
    return SparseAutoencoder(W_enc, b_enc, W_dec, b_dec, activation, token_norm=norm, site=site, **names)


def gate(b_gate: Tensor, r_mag: Tensor, b_mag: Tensor) -> Gated:
    """The gate ``x W_enc + b_gate > 0`` and the magnitude ``exp(r_mag) x W_enc + b_mag``, which share the encoder."""
    slope = r_mag.exp()
    return Gated(slope, b_mag - slope * b_gate if b_mag.shape == slope.shape == b_gate.shape else b_mag)


def token_norm(kind: Any, name: str) -> TokenNorm | None:
    """SAELens's and Prisma's ``normalize_activations``.

    Raises:
        InfoscopeError: it needs a scale that is not in the file, or is unknown.
    """
    if kind is None or kind is False or kind == "none":
        return None
    if kind == "layer_norm":
        return TokenNorm("layer_norm", 1e-5)
    if kind == "constant_norm_rescale":
        return TokenNorm("unit_norm", 0.0)
    if kind is True or kind in (_SCALED, "covariance_whitening"):
        raise InfoscopeError(
            f"SAE {name} was trained on tokens scaled by their statistics over its training set "
            f"(normalize_activations {kind}), which its files do not hold; fold them into the weights with SAELens, "
            "save it again and name that"
        )
    raise InfoscopeError(
        f"SAE {name}: normalize_activations {shown(kind)} is not known; convert it with its own project"
    )


def _norm(directory: Path, config: Settings, tensors: Tensors, name: str, rescaled: bool) -> TokenNorm | None:
    """What is done to each token first; a scale that all tokens share is folded into the weights.

    A checkpoint from the middle of training has its scale in a file beside it. It is folded as SAELens does at the end,
    in the weights' own precision, and so gives the very weights that SAELens would have saved.
    """
    kind = config.get("normalize_activations")
    path = directory / SCALER_FILE
    if not path.is_file():
        return token_norm(kind, name)
    scaler = Settings(read_object(path), str(path))
    if scaler.flag("has_whitening", False):
        raise InfoscopeError(
            f"SAE {name} was trained on whitened tokens and is not yet folded ({path.name} says has_whitening); finish "
            "its training in SAELens, or fold it there, and name that"
        )
    factor = scaler.get("scaling_factor")
    scaler.close()
    if factor is None:
        return token_norm(kind, name)  # the scale is in the weights already
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor < math.inf:
        raise InfoscopeError(f"{path}: scaling_factor is {shown(factor)}, expected a number above 0; fetch it again")
    if kind != _SCALED and kind is not True:
        raise InfoscopeError(
            f"{path} holds a scaling_factor, but {CONFIG_FILE} says normalize_activations {shown(kind)}; they belong "
            "to two checkpoints: fetch both again"
        )
    # Where codes are rescaled, the threshold is in units of the decoder's rows.
    divided = {"W_dec", "b_dec"} | ({"topk_threshold"} if rescaled else set())
    tensors.scale(factor, multiply={"W_enc"}, divide=divided)
    return None


def _architecture(config: Settings, name: str) -> str:
    # Older files name standard as the architecture of a TopK, and topk as its activation function.
    stated = "architecture" in config
    architecture = config.get("architecture", "standard")
    function = config.get("activation_fn_str", config.get("activation_fn", "relu"))
    config.get("activation_fn")
    options = config.part("activation_fn_kwargs")
    if function not in ("relu", "topk") and architecture in ("standard", "gated"):
        raise InfoscopeError(
            f"SAE {name}: activation function {shown(function)[1:-1]} is not known; known are relu and topk"
        )
    if function == "topk" and architecture == "gated":
        raise InfoscopeError(f"SAE {name}: a gated SAE with activation function topk is not known; known is relu")
    k = options.whole("k")
    if architecture == "standard" and function == "topk":
        if k is None and "k" not in config:
            raise InfoscopeError(
                f"SAE {name}: its activation function is topk, and {CONFIG_FILE} names no k; add k there, as "
                '"activation_fn_kwargs": {"k": 32}'
            )
        architecture = "topk"
    elif architecture == "standard" and (k is not None or (not stated and "k" in config)):
        # Where standard is stated, SAELens itself ignores a k beside it; elsewhere the k may be what is meant.
        raise InfoscopeError(
            f"{config.where} has a k, but neither an architecture nor an activation function that keeps k codes; say "
            "topk, or take k out"
        )
    options.close()
    if extra := sorted(options.names - {"k"}):
        raise InfoscopeError(
            f"SAE {name}: activation_fn_kwargs has {few(extra)}, which is not known"
            "; save the SAE without, or as another format of docs/sae-formats.md"
        )
    if not isinstance(architecture, str):
        raise InfoscopeError(f"{config.where}: architecture is {shown(architecture)}, expected a string; correct it")
    if "transcoder" in architecture:
        raise InfoscopeError(
            f"SAE {name} is a {architecture}: it predicts another place than it reads, so it has no reconstruction of "
            "its tokens; name a sparse autoencoder"
        )
    if architecture in _REFUSED:
        raise InfoscopeError(f"SAE {name} is of architecture {architecture}: it {_REFUSED[architecture]}; use another")
    if architecture not in _KNOWN:
        raise InfoscopeError(
            f"SAE {name}: architecture {shown(architecture)} is not known; known are {', '.join(_KNOWN[:-1])} and "
            f"{_KNOWN[-1]}"
        )
    return architecture


def _activation(architecture: str, config: Settings, tensors: Tensors, features: int) -> ReLU | TopK | JumpReLU:
    if architecture == "standard":
        config.get("k")
        return ReLU()
    if architecture == "topk":
        k = config.whole("k") or config.part("activation_fn_kwargs").whole("k")
        return TopK(k or config.needed("k"))
    if architecture == "jumprelu":
        if "threshold" not in tensors and "log_threshold" in tensors:
            return JumpReLU(tensors.take("log_threshold")[0].exp())
        (threshold,) = tensors.take("threshold")
        if config.get("k") is not None and not threshold.any():
            raise InfoscopeError(
                f"{tensors.path}: threshold is 0 for every feature while {CONFIG_FILE} has a k: a BatchTopK whose "
                "threshold was never set, so how it encodes one token is not known; name a later checkpoint"
            )
        return JumpReLU(threshold)
    # Only checkpoints from the middle of training say BatchTopK; finished ones say jumprelu. k may be a fraction.
    config.get("k")
    return JumpReLU(tensors.threshold("topk_threshold", features))


def _finetuned(W_dec: Tensor, tensors: Tensors, config: Settings) -> Tensor:
    """The decoder, times the factors of a finetuning after the training, where there was one."""
    finetuned = config.flag("finetuning_scaling_factor", False)
    if "scaling_factor" not in tensors:
        return W_dec
    (factor,) = tensors.take("scaling_factor")
    if torch.allclose(factor, torch.ones_like(factor)):
        return W_dec
    if not finetuned:
        raise InfoscopeError(
            f"{tensors.path} holds a scaling_factor, but {CONFIG_FILE} does not say finetuning_scaling_factor; add "
            "true or false there"
        )
    if factor.shape != W_dec.shape[:1]:
        raise InfoscopeError(
            f"{tensors.path}: scaling_factor has shape {list(factor.shape)}, expected {list(W_dec.shape[:1])}"
            "; fetch the SAE again, or save it as another format of docs/sae-formats.md"
        )
    return W_dec * factor[:, None]


def _site(config: Settings) -> dict[str, Any] | None:
    inside = config.part("metadata")
    shape = config.get("reshape_activations", "none")
    if shape not in ("none", "hook_z"):  # hook_z puts heads side by side, as they already are in a token
        raise InfoscopeError(f"{config.where}: reshape_activations {shown(shape)} is not known; known: none, hook_z")
    hook = (
        inside.text("hook_name") or inside.text("hook_point") or config.text("hook_name") or config.text("hook_point")
    )
    heads = [part.whole(f"{key}_head_index", least=0) for part in (inside, config) for key in ("hook", "hook_point")]
    head = next((index for index in heads if index is not None), None)
    if hook is not None and head is not None:
        hook = f"{hook}, head {head}"
    return make_site(model=inside.text("model_name") or config.text("model_name"), hook=hook)


# The version whose loader the layout was written for.
_VERSION = "6.54.12"
_NORMS = {"layer_norm": "layer_norm", "unit_norm": "constant_norm_rescale"}


def save_saelens(sae: SparseAutoencoder, directory: str | Path) -> None:
    """Write an SAE as SAELens 6 does: ``cfg.json`` and ``sae_weights.safetensors``.

    Centring is folded into the biases, so ``apply_b_dec_to_input`` is false.

    Args:
        sae: the dictionary.
        directory: where to write it; files of these names are replaced.

    Raises:
        InfoscopeError: SAELens cannot express it, or the directory cannot be written.

    Example:
        >>> import tempfile
        >>> sae = SparseAutoencoder(torch.eye(3, 4), torch.zeros(4), torch.eye(4, 3), torch.zeros(3), TopK(1))
        >>> directory = Path(tempfile.mkdtemp())
        >>> save_saelens(sae, directory)
        >>> sorted(file.name for file in directory.iterdir())
        ['cfg.json', 'sae_weights.safetensors']
        >>> save_saelens(SparseAutoencoder(*list(sae.weights().values()), TopK(1, relu=False)), directory)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: SAE in memory keeps negative codes (topk(1), signed), which SAELens sets to 0;
        save it with save_sae
    """
    directory = Path(directory)
    weights = sae.weights()
    tensors = {key: weights[key] for key in ("W_enc", "W_dec", "b_dec")}
    architecture, more, options = _architecture_name(sae, weights["b_enc"])
    norm = sae.token_norm
    if norm is not None and norm.kind == "layer_norm" and norm.eps != 1e-5:
        raise InfoscopeError(f"SAE {sae.name} has a layer norm with eps {norm.eps}, SAELens always 1e-5; use save_sae")
    if norm is not None and norm.kind not in _NORMS:
        raise InfoscopeError(f"SAE {sae.name} has a token norm {norm.kind}, which SAELens lacks; use save_sae")
    site = sae.site or {}
    hook = site.get("hook")
    if hook is None and site.get("block") is not None:
        hook = f"blocks.{site['block']}.hook_resid_post"
    metadata = {"sae_lens_version": _VERSION, "model_name": site.get("model"), "hook_name": hook}
    config = {
        "architecture": architecture,
        "d_in": sae.width,
        "d_sae": sae.features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none" if norm is None else _NORMS[norm.kind],
        "reshape_activations": "none",
        **options,
        "metadata": {key: value for key, value in metadata.items() if value is not None},
    }
    with atomic_write(directory / WEIGHTS_FILE) as temporary:
        try:
            save_file({key: tensor.contiguous() for key, tensor in (tensors | more).items()}, temporary)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(errno.EIO, str(error)) from error
    write_json(directory / CONFIG_FILE, config)


def _architecture_name(sae: SparseAutoencoder, b_enc: Tensor) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """SAELens's name, the tensors that not all architectures have, and further configuration."""
    activation = sae.activation
    if isinstance(activation, ReLU):
        return "standard", {"b_enc": b_enc}, {}
    if isinstance(activation, TopK) and activation.relu:
        # SAELens cannot keep more codes than there are features.
        k = min(activation.k, sae.features)
        return "topk", {"b_enc": b_enc}, {"k": k, "rescale_acts_by_decoder_norm": False}
    if isinstance(activation, TopK):
        raise InfoscopeError(
            f"SAE {sae.name} keeps negative codes ({activation}), which SAELens sets to 0; save it with save_sae"
        )
    if isinstance(activation, JumpReLU):
        # A threshold below 0 acts as 0 here, but would let negative codes through in SAELens.
        return "jumprelu", {"b_enc": b_enc, "threshold": activation.threshold.detach().cpu().clamp(min=0)}, {}
    if isinstance(activation, Gated):
        slope, offset = activation.slope.detach().cpu().double(), activation.offset.detach().cpu().double()
        b_mag = offset + slope * b_enc.double()
        more = {"b_gate": b_enc, "r_mag": slope.log().float(), "b_mag": b_mag.to(torch.float32)}
        return "gated", more, {}
    raise InfoscopeError(f"SAE {sae.name} has activation function {activation}, which SAELens lacks; use save_sae")
