"""dictionary_learning: ``trainer_i/ae.pt`` and ``config.json``.

Source: dictionary_learning 0.1, ``dictionary.py`` and ``trainers/*.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from infoscope.dictionaries.activations import Activation, JumpReLU, ReLU, TopK
from infoscope.dictionaries.formats.files import TorchFile
from infoscope.dictionaries.formats.folding import fold_centring, fold_decoder_norm, transposed
from infoscope.dictionaries.formats.held import Settings, Tensors
from infoscope.dictionaries.formats.saelens import gate
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError, shown

NAME = "dictionary_learning"

# Tensors of each class; the first whose tensors are all there is it, where config.json does not say.
_CLASSES = {
    "GatedAutoEncoder": {"encoder.weight", "decoder.weight", "decoder_bias", "r_mag", "gate_bias", "mag_bias"},
    "MatryoshkaBatchTopKSAE": {"W_enc", "b_enc", "W_dec", "b_dec", "threshold", "group_sizes"},
    "JumpReluAutoEncoder": {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"},
    "AutoEncoderTopK": {"encoder.weight", "encoder.bias", "decoder.weight", "b_dec"},
    "AutoEncoderNew": {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"},
    "AutoEncoder": {"encoder.weight", "encoder.bias", "decoder.weight", "bias"},
}
_SAME_TENSORS = ("AutoEncoderTopK", "BatchTopKSAE")
_KNOWN = (*_CLASSES, "BatchTopKSAE")
_BATCHED = ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")


def recognises(file: TorchFile) -> bool:
    """Whether it is a file of this project, whole or broken."""
    return bool(_trainer(file).get("dict_class")) or any(keys <= file.tensors.keys() for keys in _CLASSES.values())


def read(file: TorchFile, k: int | None) -> SparseAutoencoder:
    """The SAE, on the CPU.

    Args:
        file: the file.
        k: how many codes it keeps, for a file that does not say.

    Raises:
        InfoscopeError: a tensor is missing, or its class is not known and does not follow from the tensors.
    """
    kind = _kind(file)
    held = file.held()
    trainer = file.settings().part("trainer")
    file.settings({"trainer", "buffer"}).close()
    own = kind in ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder")
    bias = {"AutoEncoder": "bias", "GatedAutoEncoder": "decoder_bias", "AutoEncoderNew": "decoder.bias"}
    W_enc, W_dec, b_dec = held.take(
        "W_enc" if own else "encoder.weight", "W_dec" if own else "decoder.weight", bias.get(kind, "b_dec")
    )
    if not own:
        W_enc, W_dec = transposed(W_enc), transposed(W_dec)
    trainer.sizes(file.path, W_enc, "activation_dim", "dict_size")
    gated = kind == "GatedAutoEncoder"
    (b_enc,) = held.take("gate_bias" if gated else "b_enc" if own else "encoder.bias")
    if gated:
        activation: Activation = gate(*held.take("gate_bias", "r_mag", "mag_bias"))
    else:
        activation = _activation(file, kind, held, trainer, k, W_enc.shape[-1])
    if "k" in trainer and not isinstance(activation, TopK) and kind not in _BATCHED:
        trainer.refuse(("k",), f"which a dictionary of class {kind} does not have; correct config.json")
    site = _site(trainer, file.settings().part("buffer"))
    held.close(f"dictionary_learning's {kind}")
    trainer.get("dict_class"), trainer.get("trainer_class"), trainer.get("k")
    trainer.close()
    if kind not in ("JumpReluAutoEncoder", "AutoEncoderNew"):
        b_enc = fold_centring(W_enc, b_enc, b_dec)
    if kind == "AutoEncoder":
        W_enc, b_enc, W_dec = fold_decoder_norm(W_enc, b_enc, W_dec)
    return SparseAutoencoder(
        W_enc,
        b_enc,
        W_dec,
        b_dec,
        activation,
        name=file.name,
        format=NAME,
        sha256=file.sha256,
        site=site,
    )


def _trainer(file: TorchFile) -> Mapping[str, Any]:
    trainer = file.config.get("trainer")
    return trainer if isinstance(trainer, dict) else {}


def _kind(file: TorchFile) -> str:
    """The dictionary's class."""
    said = _trainer(file).get("dict_class")
    if said is not None and said not in _KNOWN:
        raise InfoscopeError(f"SAE {file.name}: dict_class {shown(said)} is not known; known are {', '.join(_KNOWN)}")
    if said is not None:
        return str(said)
    found = next(kind for kind, keys in _CLASSES.items() if keys <= file.tensors.keys())
    if found in _SAME_TENSORS:
        raise InfoscopeError(
            f"SAE {file.name} has no config.json, and AutoEncoderTopK and BatchTopKSAE have the same tensors and other "
            "codes; put its config.json beside it"
        )
    if found == "JumpReluAutoEncoder" and not re.fullmatch(r"ae(_\d+)?", file.path.stem):
        raise InfoscopeError(
            f"SAE {file.name} has no configuration, and its tensors are those of SAELens's JumpReLU, which subtracts "
            "b_dec first, and of dictionary_learning's, which does not; put its config.json beside it"
        )
    return found


def _activation(
    file: TorchFile, kind: str, held: Tensors, trainer: Settings, k: int | None, features: int
) -> ReLU | TopK | JumpReLU:
    if kind in ("AutoEncoder", "AutoEncoderNew"):
        return ReLU()
    if kind == "AutoEncoderTopK":
        stored, said = held.whole("k"), trainer.whole("k")
        if said is not None and stored is not None and said != stored:
            raise InfoscopeError(
                f"SAE {file.name}: config.json says k {shown(said)}, but {file.path.name} {shown(stored)}; fetch it "
                "again"
            )
        kept = stored if stored is not None else said if said is not None else k
        if kept is None:
            raise InfoscopeError(f"SAE {file.name} does not say its k; give it: load_sae(..., k=32)")
        held.harmless({"threshold": "kept in training; the class encodes by it only when asked to"})
        return TopK(kept)
    if kind in _BATCHED:
        held.whole("k")
        held.harmless({"group_sizes": "the loss of training", "group_weights": "the loss of training"})
        return JumpReLU(held.threshold("threshold", features))
    (threshold,) = held.take("threshold")
    return JumpReLU(threshold.clone() if threshold.ndim else torch.full((features,), threshold.item()).to(threshold))


def _site(trainer: Settings, buffer: Settings) -> dict[str, Any] | None:
    layer, module = trainer.get("layer"), trainer.get("submodule_name")
    layer = layer if isinstance(layer, int) and not isinstance(layer, bool) else None
    # A trainer that was not told the module says nothing about which place of the layer it is.
    residual = re.fullmatch(r"resid_post(_layer_\d+)?", str(module)) is not None and buffer.get("io", "out") == "out"
    hook = str(module) if module else None if layer is None else f"layer {layer}"
    return make_site(model=trainer.text("lm_name"), hook=hook, layer=layer, residual=residual)
