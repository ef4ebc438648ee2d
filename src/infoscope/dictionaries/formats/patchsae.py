"""PatchSAE, and the trainer for vision transformers that it comes from: one pickle with configuration and weights.

Source: PatchSAE, ``sae_training/sparse_autoencoder.py``, ``config.py`` and ``tasks/utils.py``. ViT-Prisma descends from
the same trainer, so that `infoscope.dictionaries.formats.prisma` takes such pickles apart with what is here.
"""

from __future__ import annotations

from typing import Any

from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.formats.accounts import Settings, Tensors
from infoscope.dictionaries.formats.files import TorchFile
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.sae import SparseAutoencoder, fold_centring
from infoscope.errors import InfoscopeError

NAME = "patchsae"


def recognises(file: TorchFile) -> bool:
    """Whether a file is of this project."""
    both = config_and_weights(file)
    # Prisma, whose files are laid out the same, calls this hook_point_layer.
    return both is not None and "block_layer" in both[0]


def read(file: TorchFile) -> SparseAutoencoder:
    """The SAE, on the CPU.

    Raises:
        InfoscopeError: a tensor is missing, or it is gated, which the project itself never encodes.
    """
    config, tensors = accounts(file)
    if config.flag("gated_sae", False):
        raise InfoscopeError(f"SAE {file.name} is gated, which PatchSAE declares but does not define; use another")
    W_enc, b_enc, W_dec, b_dec = tensors.take("W_enc", "b_enc", "W_dec", "b_dec")
    config.sizes(file.path, W_enc, "d_in", "d_sae")
    site = _site(config)
    tensors.close("PatchSAE's ReLU")
    config.close()
    return file.sae(NAME, (W_enc, fold_centring(W_enc, b_enc, b_dec), W_dec, b_dec), ReLU(), site)


def _site(config: Settings) -> dict[str, Any] | None:
    layer, module = config.whole("block_layer", least=-(10**6)), config.text("module_name")
    tokens = "cls" if config.flag("class_token", False) else "all" if "class_token" in config else None
    hook = None if layer is None else f"{layer}_{module}"
    return make_site(model=config.text("model_name"), hook=hook, layer=layer, tokens=tokens, residual=module == "resid")


def config_and_weights(file: TorchFile) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """``{"cfg" or "config", "state_dict"}``, or the older ``{"config", "autoencoder": {"state_dict"}}``.

    Returns:
        The configuration and the entries of the state dict; None for any other file.
    """
    config = file.content.get("cfg", file.content.get("config"))
    inside = file.content.get("autoencoder")
    weights = file.content.get("state_dict", inside.get("state_dict") if isinstance(inside, dict) else None)
    if not isinstance(config, dict) or not isinstance(weights, dict):
        return None
    return config, weights


def accounts(file: TorchFile) -> tuple[Settings, Tensors]:
    """Configuration and weights, to be accounted for, from one pickle or from ``config.json`` and a state dict."""
    both = config_and_weights(file)
    if both is None:
        return file.settings(), file.state_dict()
    # The pickle may hold further settings beside the two.
    Settings(file.content, str(file.path), {"cfg", "config", "state_dict", "autoencoder"}).close()
    return Settings(both[0], f"{file.path}: its configuration"), Tensors(both[1], file.path)
