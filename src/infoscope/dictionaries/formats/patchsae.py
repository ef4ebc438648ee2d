"""PatchSAE, and the trainer for vision transformers that it comes from: one pickle with configuration and weights.

Source: PatchSAE, ``sae_training/sparse_autoencoder.py``, ``config.py`` and ``tasks/utils.py``.
"""

from __future__ import annotations

from typing import Any

from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.formats.files import TorchFile, check_sizes, take
from infoscope.dictionaries.formats.folding import fold_centring
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.formats.vit_configs import config_and_weights
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
    both = config_and_weights(file)
    assert both is not None
    config, tensors = both
    if config.get("gated_sae"):
        raise InfoscopeError(f"SAE {file.name} is gated, which PatchSAE declares but does not define; use another")
    W_enc, b_enc, W_dec, b_dec = take(tensors, ("W_enc", "b_enc", "W_dec", "b_dec"), file.path)
    check_sizes(file.path, W_enc, config, "d_in", "d_sae")
    return SparseAutoencoder(
        W_enc,
        fold_centring(W_enc, b_enc, b_dec),
        W_dec,
        b_dec,
        ReLU(),
        name=file.name,
        format=NAME,
        sha256=file.sha256,
        site=_site(config),
    )


def _site(config: dict[str, Any]) -> dict[str, Any] | None:
    layer, module = config.get("block_layer"), config.get("module_name")
    tokens = {"True": "cls", "False": "all"}.get(str(config.get("class_token")))
    hook = None if layer is None else f"{layer}_{module}"
    return make_site(model=config.get("model_name"), hook=hook, layer=layer, tokens=tokens, residual=module == "resid")
