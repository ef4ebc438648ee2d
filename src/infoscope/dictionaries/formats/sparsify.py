"""EleutherAI sparsify: ``cfg.json`` and ``sae.safetensors``, one directory for each hookpoint.

Source: sparsify 1.3, ``sparse_coder.py`` and ``fused_encoder.py``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.formats.files import file_sha256, read_object, read_safetensors, take
from infoscope.dictionaries.formats.folding import fold_centring, transposed
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError

NAME = "sparsify"
CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae.safetensors"
FILES = (CONFIG_FILE, WEIGHTS_FILE)


def recognises(names: Collection[str]) -> bool:
    """Whether a directory with files of these names looks like an SAE of this format, whole or broken."""
    return CONFIG_FILE in names and WEIGHTS_FILE in names


def read(directory: Path, name: str) -> SparseAutoencoder:
    """The SAE in a directory, on the CPU.

    Args:
        directory: where the files lie; its name is the hookpoint.
        name: how the user named it.

    Raises:
        InfoscopeError: a file is missing or broken, it is a transcoder, or it does not keep the top k.
    """
    config = read_object(directory / CONFIG_FILE)
    path = directory / WEIGHTS_FILE
    tensors = read_safetensors(path)
    if config.get("transcode") or config.get("skip_connection") or "W_skip" in tensors:
        raise InfoscopeError(
            f"SAE {name} is a transcoder or has a skip connection: its codes alone do not make up its tokens; name a "
            "sparse autoencoder"
        )
    activation = config.get("activation", "topk")
    if activation != "topk" or config.get("signed"):
        said = "signed" if config.get("signed") else repr(activation)
        raise InfoscopeError(f"SAE {name}: activation {said} is not known; only topk is read")
    k = config.get("k")
    if not isinstance(k, int) or isinstance(k, bool):
        raise InfoscopeError(f"{directory / CONFIG_FILE}: k is {k!r}, expected a whole number; correct it")
    weight, b_enc, W_dec, b_dec = take(tensors, ("encoder.weight", "encoder.bias", "W_dec", "b_dec"), path)
    W_enc = transposed(weight)
    width = config.get("d_in")
    if isinstance(width, int) and weight.ndim == 2 and W_enc.shape[0] != width:
        raise InfoscopeError(
            f"{path}: encoder.weight has shape {list(weight.shape)} as [features, width], but {CONFIG_FILE} says "
            f"d_in {width}; fetch the SAE again"
        )
    hook = directory.resolve().name
    layer = re.fullmatch(r"(?:.*\.)?(?:layers|layer|h|blocks)\.(\d+)", hook)
    if re.search(r"\.\d+(\.|$)", hook) is None:
        hook = ""
    return SparseAutoencoder(
        W_enc,
        fold_centring(W_enc, b_enc, b_dec),
        W_dec,
        b_dec,
        TopK(k),
        name=name,
        format=NAME,
        sha256=file_sha256(path),
        site=make_site(hook=hook, layer=int(layer.group(1)) if layer else None, residual=True),
    )
