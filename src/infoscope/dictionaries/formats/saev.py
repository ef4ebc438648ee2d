"""saev: ``sae.pt``, a line of JSON and then a torch state dict.

Source: saev, ``nn/modeling.py`` at each change of its schema. Until 31 July 2025, b_dec was subtracted from tokens
before they were encoded; files of schema 1 are later than that only if their ``cls`` is ``SparseAutoencoderConfig``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infoscope.dictionaries.activations import Activation, JumpReLU, ReLU, TopK
from infoscope.dictionaries.formats.accounts import Settings, Tensors
from infoscope.dictionaries.formats.files import TorchFile
from infoscope.dictionaries.formats.sites import make_site
from infoscope.dictionaries.sae import SparseAutoencoder, fold_centring
from infoscope.errors import InfoscopeError, shown

NAME = "saev"
LATEST_SCHEMA = 5

_TOKENS = {"cls": "cls", "special": "cls", "patches": "patch", "content": "patch", "all": "all"}


def recognises(file: TorchFile) -> bool:
    """Whether a file is of this project."""
    return file.header is not None


def read(file: TorchFile) -> SparseAutoencoder:
    """The SAE, on the CPU.

    Raises:
        InfoscopeError: a tensor is missing, the header is of a newer schema, or tokens were scaled by numbers that the
            file does not hold.
    """
    header = file.header or {}
    schema = header.get("schema", 0)
    if not isinstance(schema, int) or isinstance(schema, bool) or not 0 <= schema <= LATEST_SCHEMA:
        raise InfoscopeError(
            f"{file.path} has schema {shown(schema)}, this infoscope reads up to {LATEST_SCHEMA}; update it"
        )
    # Before schema 1 the line was the configuration itself.
    inside = header if schema == 0 else header.get("cfg")
    if not isinstance(inside, dict):
        raise InfoscopeError(f"{file.path}: its first line has no cfg; fetch the SAE again")
    cfg = Settings(inside, f"{file.path}: its first line", {"schema"})
    if schema:
        Settings(header, cfg.where, {"schema", "cfg", "cls", "commit", "lib"}).close()
    _check_scaling(file)
    tensors = file.state_dict()
    W_enc, b_enc, W_dec, b_dec = tensors.take("W_enc", "b_enc", "W_dec", "b_dec")
    # The width's key was renamed between schemas.
    cfg.sizes(file.path, W_enc, "d_model", "d_sae")
    cfg.sizes(file.path, W_enc, "d_vit", "d_sae")
    kind = header.get("cls", "SparseAutoencoderConfig") if schema == 1 else None
    activation = _activation(file, tensors, cfg, schema, kind, W_enc.shape[-1])
    tensors.close(f"saev with {activation}")
    cfg.close()
    if schema == 0 or (schema == 1 and kind != "SparseAutoencoderConfig"):
        b_enc = fold_centring(W_enc, b_enc, b_dec)
    return file.sae(NAME, (W_enc, b_enc, W_dec, b_dec), activation, _site(file.config))


def _activation(file: TorchFile, tensors: Tensors, cfg: Settings, schema: int, kind: Any, features: int) -> Activation:
    if schema == 0:
        return ReLU()
    # In early files of schema 1 the class is the activation, with its options beside it.
    if schema == 1 and kind != "SparseAutoencoderConfig":
        options = cfg
    else:
        if "activation" not in cfg:
            raise InfoscopeError(f"{file.path}: its first line names no activation; fetch the SAE again")
        named = cfg.part("activation")
        kind, options = named.get("cls"), named.part("params")
        options.get("key")  # the same name again
    if kind in ("Relu", "Vanilla", "Matryoshka"):
        options.refuse(("top_k",), f"beside activation {kind}, which has none; fetch the SAE again")
        activation: Activation = ReLU()
    elif kind == "TopK":
        # saev applies no ReLU after it.
        activation = TopK(options.needed("top_k"), relu=False)
    elif kind == "BatchTopK":
        options.whole("top_k")
        if "activation.threshold" not in tensors:
            raise InfoscopeError(
                f"SAE {file.name} is a BatchTopK from before saev kept its threshold, so how it encodes one token is "
                "not known; use another"
            )
        # It starts at 0 or -1. Training may well leave it below 0, because negative codes can be among the k.
        activation = JumpReLU(tensors.threshold("activation.threshold", features, never=(0.0, -1.0)))
    else:
        raise InfoscopeError(
            f"SAE {file.name}: activation {shown(kind)} is not known; known are Relu, TopK and BatchTopK"
        )
    options.close()
    return activation


def _data(config: Mapping[str, Any]) -> dict[str, Any]:
    """How training read tokens, from the run's ``config.json``."""
    data = config.get("train_data", config.get("data"))
    return data if isinstance(data, dict) else {}


def _check_scaling(file: TorchFile) -> None:
    data = _data(file.config)
    if scales := [key for key in ("scale_mean", "scale_norm") if data.get(key)]:
        raise InfoscopeError(
            f"SAE {file.name} was trained on tokens shifted or scaled by statistics of its training set "
            f"({', '.join(scales)} in config.json), which its files do not hold; fold them into its weights first"
        )


def _site(config: Mapping[str, Any]) -> dict[str, Any] | None:
    data = _data(config)
    metadata = data.get("metadata")
    model = metadata.get("ckpt") if isinstance(metadata, dict) else None
    layer = data.get("layer")
    layer = layer if isinstance(layer, int) and not isinstance(layer, bool) else None
    tokens = _TOKENS.get(str(data.get("tokens", data.get("patches"))))
    hook = None if layer is None else f"blocks[{layer}]"
    return make_site(model=model, hook=hook, layer=layer, tokens=tokens, residual=True)
