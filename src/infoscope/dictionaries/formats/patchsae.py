"""PatchSAE, and the trainer for vision transformers that it comes from: one pickle with configuration and weights.

Source: PatchSAE, ``sae_training/sparse_autoencoder.py``, ``config.py`` and ``tasks/utils.py``.
"""

from __future__ import annotations

from typing import Any

from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.formats.files import TorchFile
from infoscope.dictionaries.formats.folding import fold_centring
from infoscope.dictionaries.formats.held import Settings
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.formats.vit_configs import accounts, config_and_weights
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError

NAME = "patchsae"


def recognises(file: TorchFile) -> bool:
    """Whether it is a file of this project."""
    both = config_and_weights(file)
    return both is not None and "block_layer" in both[0]


def read(file: TorchFile, k: int | None) -> SparseAutoencoder:
    """The SAE, on the CPU.

    Args:
        file: the file.
        k: not used: it is a ReLU SAE.

    Raises:
        InfoscopeError: a tensor is missing, or it is gated, which the project itself never encodes.
    """
    config, held = accounts(file)
    if config.flag("gated_sae", False):
        raise InfoscopeError(f"SAE {file.name} is gated, which PatchSAE declares but does not define; use another")
    W_enc, b_enc, W_dec, b_dec = held.take("W_enc", "b_enc", "W_dec", "b_dec")
    config.sizes(file.path, W_enc, "d_in", "d_sae")
    site = _site(config)
    held.close("PatchSAE's ReLU")
    config.close()
    return SparseAutoencoder(
        W_enc,
        fold_centring(W_enc, b_enc, b_dec),
        W_dec,
        b_dec,
        ReLU(),
        name=file.name,
        format=NAME,
        sha256=file.sha256,
        site=site,
    )


def _site(config: Settings) -> dict[str, Any] | None:
    layer, module = config.whole("block_layer", least=-(10**6)), config.text("module_name")
    tokens = "cls" if config.flag("class_token", False) else "all" if "class_token" in config else None
    hook = None if layer is None else f"{layer}_{module}"
    return make_site(model=config.text("model_name"), hook=hook, layer=layer, tokens=tokens, residual=module == "resid")
