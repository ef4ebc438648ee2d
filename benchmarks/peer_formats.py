"""Checkpoints that other projects' own code writes, encodes and decodes, against what infoscope reads from them.

    pip install --no-deps sae-lens dictionary-learning eai-sparsify overcomplete
    python benchmarks/peer_formats.py

Projects without a package (saev, ViT-Prisma, clipscope, PatchSAE) are compared where their sources are on PYTHONPATH.
Small SAEs with random weights, made by each project's own classes; real tokens where the model is there. Also, what
infoscope writes for SAELens is loaded by SAELens.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import io
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor, nn

import infoscope
from common import DATA, OnPhotographs, print_table
from infoscope.dictionaries.activations import Gated, JumpReLU, ReLU, TopK
from infoscope.dictionaries.formats.saelens import save_saelens
from infoscope.dictionaries.fvu import FVU
from infoscope.dictionaries.sae import SparseAutoencoder, TokenNorm

FEATURES = 768
K = 24


@dataclass(frozen=True, kw_only=True)
class Benchmark(OnPhotographs):
    """Options of the benchmark."""

    images: Path = DATA / "data" / "imagenette" / "val"
    count: int = 4
    """Photographs; each gives 256 tokens."""


@dataclass(frozen=True)
class Case:
    """One checkpoint: where it is, and what its own project makes of the tokens."""

    variant: str
    path: Path
    codes: Tensor
    reconstruction: Tensor
    k: int | None = None


class Absent(Exception):  # noqa: N818 - no error: what is absent is said
    """The project cannot be imported."""


def main(options: Benchmark) -> None:
    tokens, whose = real_tokens(options)
    print(f"{len(tokens)} tokens of width {tokens.shape[1]}: {whose}; {FEATURES} features, k {K}")
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for project, cases in PROJECTS.items():
            try:
                for number, case in enumerate(cases(Path(folder) / project, tokens)):
                    rows.append([project if number == 0 else "", *compare(case, tokens)])
            except Absent as absent:
                rows.append([project, f"not run: {absent}", *[""] * 6])
    heads = ("project", "checkpoint", "L0", "active in one alone", "|code| apart", "|x̂| apart", "FVU", "FVU apart")
    print_table("infoscope's reading against each project's own code, float32", heads, rows, left=3, width=160)


def compare(case: Case, tokens: Tensor) -> list[str]:
    """What a case's row says."""
    sae = infoscope.load_sae(case.path, k=case.k)
    codes = sae.encode(tokens)
    reconstruction = sae.decode(codes, tokens)
    apart = ((codes != 0) != (case.codes != 0)).sum().item()
    theirs, ours = (explained(tokens, out) for out in (case.reconstruction, reconstruction))
    return [
        case.variant,
        f"{(case.codes != 0).sum(1).double().mean():.1f}",
        f"{apart} of {int((case.codes != 0).sum())}",
        f"{(codes - case.codes).abs().max():.1e}",
        f"{(reconstruction - case.reconstruction).abs().max():.1e}",
        f"{theirs:.4f}",
        f"{abs(ours - theirs):.1e}",
    ]


def explained(tokens: Tensor, reconstruction: Tensor) -> float:
    fvu = FVU(tokens.shape[1])
    fvu.update(tokens, reconstruction)
    return fvu.value


def real_tokens(options: Benchmark) -> tuple[Tensor, str]:
    """Patch tokens of a model, scaled to a norm of the root of the width; else random ones."""
    if not options.model.is_dir() or not options.images.is_dir():
        return torch.randn(1024, 96, generator=torch.Generator().manual_seed(0)), "random"
    backbone = options.backbone("cpu")
    files = sorted(options.images.glob("*/*"))
    side = backbone.input_side
    chosen = files[:: max(len(files) // options.count, 1)][: options.count]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB").resize((side, side))) for file in chosen])
    tokens = backbone.tokens(pixels).flatten(0, 1)
    return tokens, f"{options.model.name}, block {options.block}, {len(chosen)} photographs"


def scramble(module: nn.Module, tokens: Tensor) -> None:
    """Random weights under which codes are sparse and nothing is 0: biases, gates and thresholds too."""
    generator = torch.Generator().manual_seed(1)
    scale = tokens.std().item()
    for name, weight in module.named_parameters():
        if weight.ndim == 2:
            # Roughly a transposed decoder, as trained SAEs have; rows of different norms.
            base = torch.randn(FEATURES, tokens.shape[1], generator=torch.Generator().manual_seed(2))
            base = base / base.norm(dim=1, keepdim=True)
            base = base * torch.linspace(0.5, 1.5, FEATURES)[:, None] * (1.0 if "enc" in name else 0.7)
            weight.copy_(base if tuple(weight.shape) == tuple(base.shape) else base.T)
        elif "threshold" in name:
            weight.copy_((torch.rand(weight.shape, generator=generator) * scale + 0.1).log_() if name == "thresholds"
                         else torch.rand(weight.shape, generator=generator) * scale)  # fmt: skip
        elif weight.ndim == 0:
            weight.fill_(0.3)
        elif weight.ndim == 1:
            weight.copy_(torch.randn(weight.shape, generator=generator) * (0.3 if name == "r_mag" else 0.3 * scale))


def needed(*names: str, without: tuple[str, ...] = ()) -> list[Any]:
    """Modules of a project; packages that they import and no class used here needs may be stood in for."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), stand_in(*without):
            return [importlib.import_module(name) for name in names]
    except Exception as error:  # a package's import can fail in any way
        raise Absent(f"{type(error).__name__}: {str(error).splitlines()[0][:60]}") from error


@contextlib.contextmanager
def stand_in(*packages: str) -> Iterator[None]:
    """Empty packages in place of those that are absent or broken."""
    finders = []
    for package in packages:
        try:
            importlib.import_module(package)
        except Exception:
            forget(package)
            finders.append(_StandIn(package))
    sys.meta_path[:0] = finders
    try:
        yield
    finally:
        for finder in finders:
            sys.meta_path.remove(finder)
            forget(finder.package)


def forget(package: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


class _StandIn(importlib.machinery.PathFinder):
    def __init__(self, package: str):
        self.package = package

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # type: ignore[override]
        if name.split(".")[0] != self.package:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: MagicMock()  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is in it."""


def saelens(folder: Path, tokens: Tensor) -> Iterator[Case]:
    (saes,) = needed("sae_lens")
    sizes = {"d_in": tokens.shape[1], "d_sae": FEATURES}
    plain: dict[str, tuple[str, dict[str, Any]]] = {
        "standard": ("Standard", {}),
        "standard, not centred": ("Standard", {"apply_b_dec_to_input": False}),
        "standard, layer_norm": ("Standard", {"normalize_activations": "layer_norm"}),
        "standard, constant_norm_rescale": ("Standard", {"normalize_activations": "constant_norm_rescale"}),
        "topk": ("TopK", {"k": K}),
        "topk, rescaled by the decoder": ("TopK", {"k": K, "rescale_acts_by_decoder_norm": True}),
        "jumprelu": ("JumpReLU", {}),
        "gated": ("Gated", {}),
    }
    for variant, (name, config) in plain.items():
        sae = getattr(saes, f"{name}SAE")(getattr(saes, f"{name}SAEConfig")(**sizes, **config))
        scramble(sae, tokens)
        sae.save_model(folder / variant)
        yield of_module(variant, folder / variant, sae, tokens)
    for name, options in (("BatchTopK", {}), ("MatryoshkaBatchTopK", {"matryoshka_widths": [256, FEATURES]})):
        config = getattr(saes, f"{name}TrainingSAEConfig")(**sizes, k=K, **options)
        sae = getattr(saes, f"{name}TrainingSAE")(config)
        scramble(sae, tokens)
        sae.topk_threshold.fill_(float(tokens.std()))
        sae.save_inference_model(folder / name)
        inference = saes.SAE.load_from_disk(folder / name)
        yield of_module(f"{name}, finished (jumprelu)", folder / name, inference, tokens)
        sae.save_model(folder / f"{name} in training")
        codes = inference.encode(tokens)
        yield Case(f"{name}, in training", folder / f"{name} in training", codes, inference.decode(codes))


def written_for_saelens(folder: Path, tokens: Tensor) -> Iterator[Case]:
    (saes,) = needed("sae_lens")
    width = tokens.shape[1]
    source = nn.Linear(width, FEATURES)
    scramble(source, tokens)
    W_enc, b_enc = source.weight.T, source.bias
    slope = torch.linspace(0.5, 2.0, FEATURES)
    threshold = torch.linspace(-0.5, 2.0, FEATURES) * tokens.std()
    for activation in (ReLU(), TopK(K), JumpReLU(threshold), Gated(slope, -0.3 * slope)):
        for norm in (None, TokenNorm("layer_norm"), TokenNorm("unit_norm", 0.0)):
            sae = SparseAutoencoder(W_enc, b_enc, source.weight, tokens.mean(0), activation, token_norm=norm)
            where = folder / f"{activation.name} {norm and norm.kind}"
            save_saelens(sae, where)
            theirs = saes.SAE.load_from_disk(where)
            yield of_module(f"{activation.name}{f', {norm.kind}' if norm else ''}", where, theirs, tokens)


def dictionary_learning(folder: Path, tokens: Tensor) -> Iterator[Case]:
    dictionary, top, batch, matryoshka = needed(
        "dictionary_learning.dictionary",
        *(f"dictionary_learning.trainers.{name}" for name in ("top_k", "batch_top_k", "matryoshka_batch_top_k")),
        without=("nnsight",),
    )
    width = tokens.shape[1]
    made: list[Any] = [
        dictionary.AutoEncoder(width, FEATURES),
        dictionary.AutoEncoderNew(width, FEATURES),
        dictionary.GatedAutoEncoder(width, FEATURES),
        dictionary.JumpReluAutoEncoder(width, FEATURES),
        top.AutoEncoderTopK(width, FEATURES, K),
        batch.BatchTopKSAE(width, FEATURES, K),
        matryoshka.MatryoshkaBatchTopKSAE(width, FEATURES, K, [256, FEATURES - 256]),
    ]
    for sae in made:
        scramble(sae, tokens)
        if isinstance(getattr(sae, "threshold", None), Tensor) and sae.threshold.ndim == 0:
            sae.threshold.fill_(float(tokens.std()))
        name = type(sae).__name__
        where = folder / name
        where.mkdir(parents=True)
        torch.save(sae.state_dict(), where / "ae.pt")
        infoscope.runtime.json_values.write_json(where / "config.json", {"trainer": {"dict_class": name, "k": K}})
        with contextlib.redirect_stdout(io.StringIO()):  # their own loader, which normalises what it normalises
            again = type(sae).from_pretrained(str(where / "ae.pt"))
        yield of_module(name, where, again, tokens)


def sparsify(folder: Path, tokens: Tensor) -> Iterator[Case]:
    (module,) = needed("sparsify")
    for variant, options in {"topk": {}, "topk, more than positive": {"k": FEATURES - 8}}.items():
        config = module.SparseCoderConfig(**({"num_latents": FEATURES, "k": K} | options))
        sae = module.SparseCoder(tokens.shape[1], config)
        scramble(sae, tokens)
        where = folder / variant / "layers.5"
        sae.save_to_disk(where)
        again = module.SparseCoder.load_from_disk(where)
        kept = again.encode(tokens)
        codes = torch.zeros(len(tokens), FEATURES).scatter_(1, kept.top_indices, kept.top_acts)
        yield Case(variant, where, codes, again.decode(kept.top_acts, kept.top_indices))


def overcomplete(folder: Path, tokens: Tensor) -> Iterator[Case]:
    (saes,) = needed("overcomplete.sae", without=("torchvision", "timm", "matplotlib", "skimage", "cv2"))
    folder.mkdir(parents=True)
    width = tokens.shape[1]
    points = tokens[:FEATURES]
    made: dict[str, Any] = {
        "SAE": saes.SAE(width, FEATURES),
        "TopKSAE": saes.TopKSAE(width, FEATURES, top_k=K),
        "TopKSAE, multiplier": saes.TopKSAE(width, FEATURES, top_k=K, dictionary_params={"use_multiplier": True}),
        "TopKSAE, l1 rows": saes.TopKSAE(width, FEATURES, top_k=K, dictionary_params={"normalization": "l1"}),
        "TopKSAE, tied": saes.TopKSAE(width, FEATURES, top_k=K).tied(bias=True),
        "TopKSAE, batch norm": saes.TopKSAE(width, FEATURES, top_k=K, encoder_module="mlp_bn_1"),
        "BatchTopKSAE": saes.BatchTopKSAE(width, FEATURES, top_k=K * len(tokens)),
        "JumpSAE": saes.JumpSAE(width, FEATURES),
        "RATopKSAE": saes.RATopKSAE(width, FEATURES, points=points, top_k=K),
    }
    for variant, sae in made.items():
        if variant != "RATopKSAE":
            scramble(sae, tokens)
        sae.train()(tokens)
        torch.save(sae, folder / f"{variant}, training.pth")
        state = sae.state_dict()
        sae.eval()
        codes = sae.encode(tokens)[1]
        reconstruction = sae.decode(codes)
        torch.save(sae, folder / f"{variant}.pth")
        yield Case(f"{variant}, pickled", folder / f"{variant}.pth", codes, reconstruction)
        if variant != "TopKSAE, batch norm" and variant != "RATopKSAE":
            yield Case(f"{variant}, pickled in training", folder / f"{variant}, training.pth", codes, reconstruction)
        if variant in ("TopKSAE", "TopKSAE, multiplier", "TopKSAE, tied", "TopKSAE, batch norm", "JumpSAE"):
            torch.save(state, folder / f"{variant} state.pth")
            k = None if variant == "JumpSAE" else K
            yield Case(f"{variant}, state dict", folder / f"{variant} state.pth", codes, reconstruction, k)


def saev(folder: Path, tokens: Tensor) -> Iterator[Case]:
    (modeling,) = needed("saev.nn.modeling")
    for activation in (modeling.Relu(), modeling.TopK(top_k=K), modeling.BatchTopK(top_k=K)):
        config = modeling.SparseAutoencoderConfig(d_model=tokens.shape[1], d_sae=FEATURES, activation=activation)
        sae = modeling.SparseAutoencoder(config)
        scramble(sae, tokens)
        if "activation.threshold" in sae.state_dict():
            sae.activation.threshold.fill_(float(tokens.std()))
        where = folder / type(activation).__name__
        modeling.dump(where / "sae.pt", sae)
        out = modeling.load(where / "sae.pt").eval()(tokens)
        yield Case(where.name, where / "sae.pt", out.f_x, out.x_hats[:, -1])


def prisma(folder: Path, tokens: Tensor) -> Iterator[Case]:
    module, configs = needed("vit_prisma.sae.sae", "vit_prisma.sae.config")
    variants: dict[str, dict[str, Any]] = {
        "standard, layer_norm": {},
        "standard, none": {"normalize_activations": "none"},
        "topk, layer_norm": {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}},
        "gated, layer_norm": {"architecture": "gated", "use_ghost_grads": False},
    }
    for variant, options in variants.items():
        with contextlib.redirect_stdout(io.StringIO()):
            config = configs.VisionModelSAERunnerConfig(
                d_in=tokens.shape[1], expansion_factor=FEATURES // tokens.shape[1], hook_point_layer=9, **options
            )
            sae = module.SparseAutoencoder(config)
        scramble(sae, tokens)
        with contextlib.redirect_stdout(io.StringIO()):
            sae.save_model(str(folder / variant / "n_images_1300.pt"))
        gated = options.get("architecture") == "gated"
        codes = sae.encode_gated(tokens)[1] if gated else sae.encode_standard(tokens)
        yield Case(f"{variant}, pickled", folder / variant, codes, sae(tokens)[0])
        split = folder / f"{variant}, split"
        split.mkdir()
        torch.save(sae.state_dict(), split / "weights.pt")
        config.save_config(str(split / "config.json"))
        yield Case(f"{variant}, config.json", split, codes, sae(tokens)[0])


def patchsae(folder: Path, tokens: Tensor) -> Iterator[Case]:
    module, configs = needed("src.sae_training.sparse_autoencoder", "src.sae_training.config")
    configs.wandb.util.generate_id = lambda: "run"  # the one thing it needs wandb for, which newer ones lack
    with contextlib.redirect_stdout(io.StringIO()):
        config = configs.ViTSAERunnerConfig(
            d_in=tokens.shape[1], expansion_factor=FEATURES // tokens.shape[1], block_layer=-2, class_token=False,
            use_ghost_grads=False,
        )  # fmt: skip
        sae = module.SparseAutoencoder(config, "cpu").eval()
        scramble(sae, tokens)
        folder.mkdir()
        sae.save_model(str(folder / "out.pt"))
    held: dict[str, Tensor] = {}
    sae.hook_hidden_post.register_forward_hook(lambda _, __, output: held.update(codes=output))
    reconstruction = sae(tokens)[0]
    yield Case("relu", folder / "out.pt", held["codes"], reconstruction)


def clip_scope(folder: Path, tokens: Tensor) -> Iterator[Case]:
    (module,) = needed("clipscope.sae")
    for k in (K, FEATURES - 8):
        sae = module.TopKSAE(k, FEATURES, tokens.shape[1], "cpu")
        scramble(sae, tokens)
        where = folder / f"{k}" / "11_resid" / "1200.pt"
        where.parent.mkdir(parents=True)
        sizes = {"k": k, "n_features": FEATURES, "d_in": tokens.shape[1]}
        torch.save({"model_state_dict": sae.state_dict()} | sizes, where)
        out = sae.forward_verbose(tokens)
        yield Case(f"topk {k}", where, out["latent"], out["reconstruction"])


def of_module(variant: str, path: Path, sae: Any, tokens: Tensor) -> Case:
    codes = sae.encode(tokens)
    return Case(variant, path, codes, sae.decode(codes))


PROJECTS: dict[str, Callable[[Path, Tensor], Iterator[Case]]] = {
    "saev": saev,  # first: it does not import after some of the others
    "SAELens": saelens,
    "SAELens reads ours": written_for_saelens,
    "dictionary_learning": dictionary_learning,
    "sparsify": sparsify,
    "overcomplete": overcomplete,
    "ViT-Prisma": prisma,
    "PatchSAE": patchsae,
    "CLIP-Scope": clip_scope,
}

if __name__ == "__main__":
    main(tyro.cli(Benchmark))
