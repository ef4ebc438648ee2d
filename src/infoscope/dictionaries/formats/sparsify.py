"""EleutherAI sparsify: ``cfg.json`` and ``sae.safetensors``, one directory for each hookpoint.

Source: sparsify 1.3, ``sparse_coder.py`` and ``fused_encoder.py``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.formats.accounts import Settings
from infoscope.dictionaries.formats.files import file_sha256, read_object, read_weights, transposed
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.sae import SparseAutoencoder, fold_centring
from infoscope.errors import InfoscopeError, shown

NAME = "sparsify"
CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae.safetensors"
FILES = (CONFIG_FILE, WEIGHTS_FILE)
BESIDE = ()


def recognises(names: Collection[str]) -> bool:
    """Whether a directory with files of these names looks like an SAE of this format, whole or broken."""
    return CONFIG_FILE in names and WEIGHTS_FILE in names


def read(directory: Path, name: str) -> SparseAutoencoder:
    """The SAE in a directory, on the CPU.

    Args:
        directory: where the files are; its name is the hookpoint.
        name: how the user named it.

    Raises:
        InfoscopeError: a file is missing or damaged, or it is a transcoder or no TopK.
    """
    config = Settings(read_object(directory / CONFIG_FILE), str(directory / CONFIG_FILE))
    path = directory / WEIGHTS_FILE
    tensors = read_weights(path)
    if config.flag("transcode", False) or config.flag("skip_connection", False) or "W_skip" in tensors:
        raise InfoscopeError(
            f"SAE {name} is a transcoder or has a skip connection: its codes alone do not make up its tokens; name a "
            "sparse autoencoder"
        )
    activation, signed = config.get("activation", "topk"), config.flag("signed", False)
    if activation != "topk" or signed:
        function = "signed" if signed else shown(activation)
        raise InfoscopeError(f"SAE {name}: activation {function} is not known; only topk is read")
    k = config.needed("k")
    weight, b_enc, W_dec, b_dec = tensors.take("encoder.weight", "encoder.bias", "W_dec", "b_dec")
    W_enc = transposed(weight)
    width = config.whole("d_in")
    if width is not None and weight.ndim == 2 and W_enc.shape[0] != width:
        raise InfoscopeError(
            f"{path}: encoder.weight has shape {list(weight.shape)} as [features, width], but {CONFIG_FILE} says "
            f"d_in {shown(width)}; fetch the SAE again"
        )
    if config.whole("num_latents", least=0):  # 0 means the expansion factor times the width
        config.sizes(path, W_enc, "d_in", "num_latents")
    tensors.close("a TopK SAE of sparsify")
    config.close()
    folder = directory.resolve()
    # Of several seeds, each has a folder inside its hookpoint's.
    hook = folder.parent.name if re.fullmatch(r"seed\d+", folder.name) else folder.name
    layer = re.fullmatch(r"(?:.*\.)?(?:layers|layer|h|blocks)\.(\d+)", hook)
    if re.search(r"\.\d+(\.|$)", hook) is None:
        hook = ""
    site = make_site(hook=hook, layer=int(layer.group(1)) if layer else None, residual=True)
    weights = W_enc, fold_centring(W_enc, b_enc, b_dec), W_dec, b_dec
    return SparseAutoencoder(*weights, TopK(k), name=name, format=NAME, sha256=file_sha256(path), site=site)
