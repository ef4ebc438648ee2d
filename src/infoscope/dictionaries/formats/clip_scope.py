"""CLIP-Scope: ``{layer}_resid/{tokens}.pt``, a dictionary with k and the weights.

Source: clipscope, ``sae.py`` and ``hookedvit.py``.
"""

from __future__ import annotations

import re

import torch

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.formats.files import TorchFile, tensors_of
from infoscope.dictionaries.formats.folding import fold_centring
from infoscope.dictionaries.formats.held import Settings, Tensors
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError

NAME = "clip_scope"
MODEL = "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"


def recognises(file: TorchFile) -> bool:
    """Whether it is a file of this project."""
    return {"pre_b", "enc", "dec"} <= tensors_of(file.content.get("model_state_dict")).keys()


def read(file: TorchFile, k: int | None) -> SparseAutoencoder:
    """The SAE, on the CPU.

    Args:
        file: the file.
        k: how many codes it keeps, for a file that does not say.

    Raises:
        InfoscopeError: a tensor is missing, or k is nowhere.
    """
    held = Tensors(file.content["model_state_dict"], file.path)
    b_dec, W_enc, W_dec = held.take("pre_b", "enc", "dec")
    if W_enc.ndim == 3:
        raise InfoscopeError(f"SAE {file.name} routes tokens to experts, which is not read; name another checkpoint")
    config = Settings(file.content, str(file.path), {"model_state_dict"})
    config.sizes(file.path, W_enc, "d_in", "n_features")
    kept = config.whole("k") or k
    if kept is None:
        raise InfoscopeError(f"SAE {file.name} does not say its k; give it: load_sae(..., k=32)")
    held.close("a TopK SAE of CLIP-Scope")
    config.close()
    found = re.fullmatch(r"(\d+)_resid", file.path.resolve().parent.name)
    site = None
    if found:
        # The project's own hook is on the whole block, and its files are of this one model.
        site = make_site(model=MODEL, hook=found.group(0), layer=int(found.group(1)), residual=True)
    return SparseAutoencoder(
        W_enc,
        fold_centring(W_enc, torch.zeros(W_enc.shape[-1], dtype=W_enc.dtype), b_dec),
        W_dec,
        b_dec,
        TopK(kept, relu=False),
        name=file.name,
        format=NAME,
        sha256=file.sha256,
        site=site,
    )
