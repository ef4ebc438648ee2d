"""Writing what SAELens 6 loads."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from infoscope.dictionaries.activations import Gated, JumpReLU, ReLU, TopK
from infoscope.dictionaries.formats.saelens import CONFIG_FILE, WEIGHTS_FILE
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.storage.atomic import atomic_write, write_json

# The version whose loader the layout was written for.
_VERSION = "6.54.12"
_NORMS = {"layer_norm": "layer_norm", "unit_norm": "constant_norm_rescale"}


def save_saelens(sae: SparseAutoencoder, directory: str | Path) -> None:
    """Write an SAE as SAELens 6 does: ``cfg.json`` and ``sae_weights.safetensors``.

    Centring is folded into the biases, so ``apply_b_dec_to_input`` is false.

    Args:
        sae: the dictionary.
        directory: where to; files of that name already there are replaced.

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
    architecture, more, options = _architecture(sae, weights["b_enc"])
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


def _architecture(sae: SparseAutoencoder, b_enc: Tensor) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """SAELens's name, the tensors beside the three that all have, and further configuration."""
    activation = sae.activation
    if isinstance(activation, ReLU):
        return "standard", {"b_enc": b_enc}, {}
    if isinstance(activation, TopK) and activation.relu:
        # SAELens cannot keep more than there are.
        k = min(activation.k, sae.features)
        return "topk", {"b_enc": b_enc}, {"k": k, "rescale_acts_by_decoder_norm": False}
    if isinstance(activation, TopK):
        raise InfoscopeError(
            f"SAE {sae.name} keeps negative codes ({activation}), which SAELens sets to 0; save it with save_sae"
        )
    if isinstance(activation, JumpReLU):
        # Below 0 a threshold acts as 0 here, and lets negative codes through there.
        return "jumprelu", {"b_enc": b_enc, "threshold": activation.threshold.detach().cpu().clamp(min=0)}, {}
    if isinstance(activation, Gated):
        slope, offset = activation.slope.detach().cpu().double(), activation.offset.detach().cpu().double()
        b_mag = offset + slope * b_enc.double()
        more = {"b_gate": b_enc, "r_mag": slope.log().float(), "b_mag": b_mag.to(torch.float32)}
        return "gated", more, {}
    raise InfoscopeError(f"SAE {sae.name} has activation function {activation}, which SAELens lacks; use save_sae")
