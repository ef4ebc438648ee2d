"""dictionary_learning: ``trainer_i/ae.pt`` and ``config.json``.

Source: dictionary_learning 0.1, ``dictionary.py`` and ``trainers/*.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from infoscope.dictionaries.activations import Activation, JumpReLU, ReLU, TopK
from infoscope.dictionaries.formats.accounts import Settings, Tensors
from infoscope.dictionaries.formats.files import TorchFile, transposed
from infoscope.dictionaries.formats.saelens import gate
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.sae import SparseAutoencoder, fold_centring, fold_decoder_norm
from infoscope.errors import InfoscopeError, shown

NAME = "dictionary_learning"

# The tensors of each class. Where config.json names no class, it is the first one whose tensors are all there.
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
    """Whether a file is of this project, whole or damaged."""
    return bool(_trainer(file).get("dict_class")) or any(keys <= file.tensors.keys() for keys in _CLASSES.values())


def read(file: TorchFile) -> SparseAutoencoder:
    """The SAE, on the CPU.

    Raises:
        InfoscopeError: a tensor is missing, or its class is not known and does not follow from the tensors.
    """
    kind = _kind(file)
    tensors = file.state_dict()
    trainer = file.settings().part("trainer")
    file.settings({"trainer", "buffer"}).close()
    # These two store plain matrices; the others are linear layers, whose weights are transposed and have other names.
    own = kind in ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder")
    bias = {"AutoEncoder": "bias", "GatedAutoEncoder": "decoder_bias", "AutoEncoderNew": "decoder.bias"}
    W_enc, W_dec, b_dec = tensors.take(
        "W_enc" if own else "encoder.weight", "W_dec" if own else "decoder.weight", bias.get(kind, "b_dec")
    )
    if not own:
        W_enc, W_dec = transposed(W_enc), transposed(W_dec)
    trainer.sizes(file.path, W_enc, "activation_dim", "dict_size")
    gated = kind == "GatedAutoEncoder"
    (b_enc,) = tensors.take("gate_bias" if gated else "b_enc" if own else "encoder.bias")
    if gated:
        activation: Activation = gate(*tensors.take("gate_bias", "r_mag", "mag_bias"))
    else:
        activation = _activation(file, kind, tensors, trainer, W_enc.shape[-1])
    if "k" in trainer and not isinstance(activation, TopK) and kind not in _BATCHED:
        trainer.refuse(("k",), f"which a dictionary of class {kind} does not have; correct config.json")
    site = _site(trainer, file.settings().part("buffer"))
    tensors.close(f"dictionary_learning's {kind}")
    # These were read above, or only name what is read.
    trainer.get("dict_class"), trainer.get("trainer_class"), trainer.get("k")
    trainer.close()
    # All but these subtract b_dec from tokens first.
    if kind not in ("JumpReluAutoEncoder", "AutoEncoderNew"):
        b_enc = fold_centring(W_enc, b_enc, b_dec)
    # Its class multiplies codes by the norms of the decoder's rows.
    if kind == "AutoEncoder":
        W_enc, b_enc, W_dec = fold_decoder_norm(W_enc, b_enc, W_dec)
    return file.sae(NAME, (W_enc, b_enc, W_dec, b_dec), activation, site)


def _trainer(file: TorchFile) -> Mapping[str, Any]:
    trainer = file.config.get("trainer")
    return trainer if isinstance(trainer, dict) else {}


def _kind(file: TorchFile) -> str:
    """The dictionary's class."""
    stated = _trainer(file).get("dict_class")
    if stated is not None and stated not in _KNOWN:
        raise InfoscopeError(f"SAE {file.name}: dict_class {shown(stated)} is not known; known are {', '.join(_KNOWN)}")
    if stated is not None:
        return str(stated)
    kind = next(name for name, keys in _CLASSES.items() if keys <= file.tensors.keys())
    if kind in _SAME_TENSORS:
        raise InfoscopeError(
            f"SAE {file.name} has no config.json, and AutoEncoderTopK and BatchTopKSAE have the same tensors but "
            "encode differently; put its config.json beside it"
        )
    if kind == "JumpReluAutoEncoder" and not re.fullmatch(r"ae(_\d+)?", file.path.stem):
        raise InfoscopeError(
            f"SAE {file.name} has no configuration, and its tensors are those of SAELens's JumpReLU, which subtracts "
            "b_dec first, and of dictionary_learning's, which does not; put its config.json beside it"
        )
    return kind


def _activation(
    file: TorchFile, kind: str, tensors: Tensors, trainer: Settings, features: int
) -> ReLU | TopK | JumpReLU:
    if kind in ("AutoEncoder", "AutoEncoderNew"):
        return ReLU()
    if kind == "AutoEncoderTopK":
        stored, stated = tensors.whole("k"), trainer.whole("k")
        if stated is not None and stored is not None and stated != stored:
            raise InfoscopeError(
                f"SAE {file.name}: config.json says k {shown(stated)}, but {file.path.name} {shown(stored)}; fetch it "
                "again"
            )
        tensors.harmless({"threshold": "recorded in training; the class encodes with it only when asked to"})
        k = stored if stored is not None else stated
        return TopK(file.given_k() if k is None else k)
    if kind in _BATCHED:
        # k was for whole batches; a single token is encoded with the threshold that training recorded.
        tensors.whole("k")
        tensors.harmless({"group_sizes": "the loss of training", "group_weights": "the loss of training"})
        return JumpReLU(tensors.threshold("threshold", features))
    (threshold,) = tensors.take("threshold")
    return JumpReLU(threshold.clone() if threshold.ndim else torch.full((features,), threshold.item()).to(threshold))


def _site(trainer: Settings, buffer: Settings) -> dict[str, Any] | None:
    layer, module = trainer.get("layer"), trainer.get("submodule_name")
    layer = layer if isinstance(layer, int) and not isinstance(layer, bool) else None
    # Without a module's name, it is not known which part of the layer the tokens are from.
    residual = re.fullmatch(r"resid_post(_layer_\d+)?", str(module)) is not None and buffer.get("io", "out") == "out"
    hook = str(module) if module else None if layer is None else f"layer {layer}"
    return make_site(model=trainer.text("lm_name"), hook=hook, layer=layer, residual=residual)
