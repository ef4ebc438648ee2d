"""Readers of dictionaries: every format of SAEs, directions, and class embeddings with lists of classes and prompts."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fuzz.readers import Found, Reader, register
from infoscope.analyses.zeroshot.classes import Classes, read_classes, read_templates
from infoscope.analyses.zeroshot.embeddings import LogitScale, class_embeddings, read_embeddings, write_embeddings
from infoscope.dictionaries.activations import JumpReLU, TopK
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder, TokenNorm
from infoscope.dictionaries.untrained import direction_dictionary, read_directions
from layouts import write_devkit

WIDTH, FEATURES = 6, 14
RULE = "tensors have no checksum in this format, and a configuration may say something else"


def weights() -> dict[str, Tensor]:
    """The four weights in SAELens's orientation."""
    return _random(3, W_enc=(WIDTH, FEATURES), b_enc=(FEATURES,), W_dec=(FEATURES, WIDTH), b_dec=(WIDTH,))


def _random(seed: int, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {key: 0.4 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def _thresholds() -> Tensor:
    return torch.rand(FEATURES, generator=torch.Generator().manual_seed(5)) * 0.5 + 0.1


def _gates() -> dict[str, Tensor]:
    return _random(4, b_gate=(FEATURES,), r_mag=(FEATURES,), b_mag=(FEATURES,))


def _linear() -> dict[str, Tensor]:
    held = weights()
    return {
        "encoder.weight": held["W_enc"].T.contiguous(),
        "encoder.bias": held["b_enc"],
        "decoder.weight": held["W_dec"].T.contiguous(),
    }


def keep_sae(sae: SparseAutoencoder, found: Found) -> None:
    """An SAE's codes and reconstructions of fixed tokens, and what it is made of."""
    found.keep("weights", sae.weights())
    found.keep("shape", (sae.width, sae.features))
    if sae.width <= 4096:
        tokens = 1.5 * torch.randn(20, sae.width, generator=torch.Generator().manual_seed(6)) + 0.7
        with torch.no_grad():
            codes = sae.encode(tokens)
            # Weights near the largest number there is may overflow; they are what the file says.
            found.keep("codes", codes, finite=False)
            found.keep("reconstruction", sae.decode(codes, tokens), finite=False)


def _reads(name: str = ".", k: int | None = None) -> Callable[[Path, Found], None]:
    def read(folder: Path, found: Found) -> None:
        keep_sae(load_sae(folder / name, k=k), found)

    return read


def _sae(name: str, build: Callable[[Path], None], read: Callable[[Path, Found], None], **options: Any) -> None:
    options = {"rule": RULE, "strict": True, "sums": {"*.pt": "container", "*.pth": "container"}} | options
    register(Reader(name, build, read, **options))


# This project's own ---------------------------------------------------------------------------------------------------


def _own(folder: Path) -> None:
    sae = SparseAutoencoder(**weights(), activation=TopK(5), token_norm=TokenNorm("layer_norm"))
    save_sae(sae, folder, site={"model": "openai/clip-vit-base-patch16", "block": 10})


def _own_jump(folder: Path) -> None:
    save_sae(SparseAutoencoder(**weights(), activation=JumpReLU(_thresholds())), folder, site={"block": 1})


OWN = {"sae.safetensors": "file"}
_sae("sae infoscope", _own, _reads(), sums=OWN)
_sae("sae infoscope jumprelu", _own_jump, _reads(), sums=OWN)

# Directories ----------------------------------------------------------------------------------------------------------


def _saelens(architecture: str, more: Callable[[], dict[str, Tensor]], **config: Any) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        default = {
            "d_in": WIDTH, "d_sae": FEATURES, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
            "normalize_activations": "none", "reshape_activations": "none", "architecture": architecture,
            "metadata": {"sae_lens_version": "6.54.12", "model_name": "a/b", "hook_name": "blocks.9.hook_resid_post"},
        }  # fmt: skip
        (folder / "cfg.json").write_text(json.dumps(default | config))
        # A gated SAE has biases of its own.
        held = {key: each for key, each in weights().items() if key != "b_enc" or architecture != "gated"}
        save_file(held | more(), folder / "sae_weights.safetensors")

    return build


_sae("sae saelens", _saelens("topk", dict, k=5), _reads())
_sae("sae saelens jumprelu", _saelens("jumprelu", lambda: {"threshold": _thresholds()}), _reads())
_sae("sae saelens gated", _saelens("gated", _gates), _reads())


def _sparsify(folder: Path) -> None:
    held = weights()
    tensors = {"encoder.weight": held["W_enc"].T.contiguous(), "encoder.bias": held["b_enc"]}
    (folder / "layers.5").mkdir()
    save_file(tensors | {key: held[key] for key in ("W_dec", "b_dec")}, folder / "layers.5" / "sae.safetensors")
    config = {
        "activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": FEATURES, "k": 5,
        "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": WIDTH,
    }  # fmt: skip
    (folder / "layers.5" / "cfg.json").write_text(json.dumps(config))


_sae("sae sparsify", _sparsify, _reads())

# Torch files ----------------------------------------------------------------------------------------------------------


def _saev(folder: Path) -> None:
    activation = {"cls": "TopK", "params": {"top_k": 5, "key": "top-k"}}
    header = {"schema": 5, "cfg": {"d_model": WIDTH, "d_sae": FEATURES, "activation": activation}}
    with (folder / "sae.pt").open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(weights(), file)


def _clip_scope(folder: Path) -> None:
    held = weights()
    state = {"pre_b": held["b_dec"], "enc": held["W_enc"], "dec": held["W_dec"]}
    torch.save({"model_state_dict": state, "k": 5, "n_features": FEATURES, "d_in": WIDTH}, folder / "1200.pt")


def _foreign(kind: str, **attributes: Any) -> tuple[types.ModuleType, Any]:
    """An object of a package that is gone when the file is read."""
    module = types.ModuleType("foreign_project")
    made = type(kind, (), {"__module__": module.__name__})
    setattr(module, kind, made)
    value = made()
    value.__dict__.update(attributes)
    return module, value


def _save_foreign(module: types.ModuleType, value: Any, path: Path) -> None:
    sys.modules[module.__name__] = module
    try:
        torch.save(value, path)
    finally:
        del sys.modules[module.__name__]


def _patchsae(folder: Path) -> None:
    module, config = _foreign(
        "ViTSAERunnerConfig", model_name="openai/clip-vit-base-patch16", module_name="resid", block_layer=-2,
        class_token=False, d_in=WIDTH, expansion_factor=64, d_sae=FEATURES, gated_sae=False, dtype=torch.float32,
    )  # fmt: skip
    _save_foreign(module, {"cfg": config, "state_dict": weights()}, folder / "out.pt")


PRISMA = {
    "model_name": "open-clip:laion/CLIP-ViT-B-32", "hook_point_layer": 9, "layer_subtype": "hook_resid_post",
    "hook_point": "blocks.9.hook_resid_post", "d_in": WIDTH, "expansion_factor": 2, "d_sae": FEATURES,
    "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}, "cls_token_only": False, "use_patches_only": False,
    "normalize_activations": "layer_norm", "architecture": "standard",
}  # fmt: skip


def _prisma(folder: Path) -> None:
    torch.save(weights(), folder / "weights.pt")
    (folder / "config.json").write_text(json.dumps(PRISMA))


def _prisma_pickled(folder: Path) -> None:
    module, config = _foreign("VisionModelSAERunnerConfig", **PRISMA)
    _save_foreign(module, {"cfg": config, "state_dict": weights()}, folder / "n_images_100.pt")


def _dictionary_learning(folder: Path) -> None:
    held = _linear() | {"b_dec": weights()["b_dec"], "k": torch.tensor(5), "threshold": torch.tensor(0.2)}
    torch.save(held, folder / "ae.pt")
    trainer = {"dict_class": "BatchTopKSAE", "lm_name": "clip", "layer": 10, "submodule_name": "resid_post_layer_10"}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))


def _dictionary_learning_old(folder: Path) -> None:
    """In the layout of torch files of old: pickles after one another, and no archive."""
    held = _linear() | {"bias": weights()["b_dec"]}
    torch.save(held, folder / "ae.pt", _use_new_zipfile_serialization=False)


def _overcomplete_tensors() -> dict[str, Tensor]:
    held = weights()
    return {
        "encoder.final_block.0.weight": held["W_enc"].T.contiguous(),
        "encoder.final_block.0.bias": held["b_enc"],
        "dictionary._weights": 3.0 * held["W_dec"],
        "dictionary.multiplier": torch.tensor(0.4),
    }


def _overcomplete(folder: Path) -> None:
    torch.save(_overcomplete_tensors(), folder / "sae.pth")


def _overcomplete_module(folder: Path) -> None:
    """The module itself, pickled, of classes that are not there."""
    module = types.ModuleType("foreign_project")

    def made(kind: str, **inside: Any) -> nn.Module:
        cls = type(kind, (nn.Module,), {"__module__": module.__name__})
        setattr(module, kind, cls)
        value = cls()
        for name, part in inside.items():
            setattr(value, name, part)
        return value

    def normalize_l2() -> None:
        """Stands for the project's function of this name."""

    normalize_l2.__module__, normalize_l2.__qualname__ = module.__name__, "normalize_l2"
    module.normalize_l2 = normalize_l2  # type: ignore[attr-defined]
    held = weights()
    linear = nn.Linear(WIDTH, FEATURES)
    with torch.no_grad():
        linear.weight.copy_(held["W_enc"].T)
        linear.bias.copy_(held["b_enc"])
    rows = nn.Parameter(3.0 * held["W_dec"])
    dictionary = made("DictionaryLayer", _weights=rows, normalization=normalize_l2)
    dictionary.register_buffer("multiplier", torch.tensor(0.4))
    encoder = made("MLPEncoder", final_block=nn.Sequential(linear, nn.Identity()))
    sae = made("TopKSAE", encoder=encoder, dictionary=dictionary, top_k=5)
    _save_foreign(module, sae, folder / "sae.pth")


_sae("sae saev", _saev, _reads("sae.pt"))
_sae("sae clip_scope", _clip_scope, _reads("1200.pt"))
_sae("sae patchsae", _patchsae, _reads("out.pt"))
_sae("sae prisma", _prisma, _reads())
_sae("sae prisma pickled", _prisma_pickled, _reads())
_sae("sae dictionary_learning", _dictionary_learning, _reads())
_sae("sae dictionary_learning of old", _dictionary_learning_old, _reads("ae.pt"), kinds={"*.pt": ("pickle",)}, sums={})
_sae("sae overcomplete", _overcomplete, _reads(k=5))
_sae("sae overcomplete module", _overcomplete_module, _reads("sae.pth", k=5))

# Directions, embeddings, classes and prompts --------------------------------------------------------------------------


def _directions(folder: Path) -> None:
    held = np.random.default_rng(0).normal(size=(5, WIDTH)).astype(np.float32)
    np.save(folder / "directions.npy", held)
    save_file({"directions": torch.from_numpy(held), "mean": torch.ones(WIDTH)}, folder / "directions.safetensors")


def _read_directions(folder: Path, found: Found) -> None:
    def dictionary(name: str) -> Any:
        directions, mean = read_directions(folder / name)
        mean = np.zeros(directions.shape[1], np.float32) if mean is None else mean
        return direction_dictionary(directions, mean, name=str(folder / name)).weights()

    for name in ("directions.npy", "directions.safetensors"):
        found.take(name, lambda name=name: dictionary(name))


register(Reader("directions", _directions, _read_directions, rule="arrays have no checksum"))


def _embeddings(folder: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    classes = Classes(("cat", "dog", "garbage truck"), ("n1", "n2", "n3"))
    made = class_embeddings(classes, vectors, LogitScale(30.0, -2.0), {"made": "here"})
    write_embeddings(folder / "classes.safetensors", made)
    np.save(folder / "classes.npy", vectors.astype(np.float64))


def _read_embeddings(folder: Path, found: Found) -> None:
    found.take("classes.safetensors", lambda: read_embeddings(folder / "classes.safetensors"))
    found.take("classes.npy", lambda: read_embeddings(folder / "classes.npy", Classes(("a", "b", "c"))))


register(Reader("class embeddings", _embeddings, _read_embeddings, rule="arrays have no checksum"))


def _lists(folder: Path) -> None:
    (folder / "names.txt").write_text("tench\nEnglish springer\ncassette player\n")
    (folder / "names.json").write_text(json.dumps(["tench", "church", "garbage truck"]))
    (folder / "folders.json").write_text(json.dumps({"n01440764": "tench", "n03028079": "church"}))
    synsets = {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}
    (folder / "class_index.json").write_text(json.dumps(synsets))
    (folder / "synsets.txt").write_text("n01440764 tench, Tinca tinca\nn03028079 church, church building\n")
    (folder / "templates.txt").write_text("a photo of a {}.\na sketch of {}\n")
    (folder / "templates.json").write_text(json.dumps(["a photo of a {}.", "{}"]))
    write_devkit(folder / "devkit", [3, 1, 2])
    meta = folder / "devkit" / "meta.mat"
    # The time at which it was written is in its first line.
    meta.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + meta.read_bytes()[116:])


def _read_lists(folder: Path, found: Found) -> None:
    for name in ("names.txt", "names.json", "folders.json", "class_index.json", "synsets.txt", "devkit/meta.mat"):
        found.take(name, lambda name=name: read_classes(folder / name))
    for name in ("templates.txt", "templates.json"):
        found.take(name, lambda name=name: read_templates(folder / name))


register(Reader("class lists and prompts", _lists, _read_lists, rule="a list may name other classes"))
