"""CLIP-Scope: ``{layer}_resid/{tokens}.pt``, a dictionary with k and the weights.

Source: clipscope, ``sae.py`` and ``hookedvit.py``.
"""

from __future__ import annotations

import re

import torch

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.formats.accounts import Settings, Tensors
from infoscope.dictionaries.formats.files import TorchFile, tensors_of
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.sae import SparseAutoencoder, fold_centring
from infoscope.errors import InfoscopeError

NAME = "clip_scope"
MODEL = "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"


def recognises(file: TorchFile) -> bool:
    """Whether a file is of this project."""
    return {"pre_b", "enc", "dec"} <= tensors_of(file.content.get("model_state_dict")).keys()


def read(file: TorchFile) -> SparseAutoencoder:
    """The SAE, on the CPU.

    Raises:
        InfoscopeError: a tensor is missing, or neither the file nor the user says k.
    """
    tensors = Tensors(file.content["model_state_dict"], file.path)
    # There is no encoder bias of its own: pre_b is subtracted before the encoder and added after the decoder.
    b_dec, W_enc, W_dec = tensors.take("pre_b", "enc", "dec")
    if W_enc.ndim == 3:
        raise InfoscopeError(f"SAE {file.name} routes tokens to experts, which is not read; name another checkpoint")
    config = Settings(file.content, str(file.path), {"model_state_dict"})
    config.sizes(file.path, W_enc, "d_in", "n_features")
    k = config.whole("k") or file.given_k()
    tensors.close("a TopK SAE of CLIP-Scope")
    config.close()
    site = None
    if folder := re.fullmatch(r"(\d+)_resid", file.path.resolve().parent.name):
        # The project hooks the output of a whole block, and all its files are of this one model.
        site = make_site(model=MODEL, hook=folder.group(0), layer=int(folder.group(1)), residual=True)
    b_enc = fold_centring(W_enc, torch.zeros(W_enc.shape[-1], dtype=W_enc.dtype), b_dec)
    return file.sae(NAME, (W_enc, b_enc, W_dec, b_dec), TopK(k, relu=False), site)
