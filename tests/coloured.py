"""A small model, an SAE, a run of both, and pictures whose class is their colour."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from infoscope.analyses.probes.classification import classification_task
from infoscope.analyses.probes.classification_head import RECIPES
from infoscope.backbones.loading import load_backbone
from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.measurement.measure import measure_scope
from infoscope.runtime.run import open_run
from small import SIDE, WIDTH, pictures, save_model

COLOURS = {"blue": (20, 40, 200), "green": (30, 190, 40), "red": (210, 30, 30)}


@pytest.fixture(scope="module")
def few_strengths():
    """The simple recipe with three of its nine strengths, for tests of what is around a head rather than of a head."""
    usual = RECIPES["simple"]
    RECIPES["simple"] = replace(usual, solver=replace(usual.solver, strengths=(1.0, 1e-1, 1e-2)))
    yield
    RECIPES["simple"] = usual


@pytest.fixture(scope="session")
def probed(tmp_path_factory):
    """Block 1 of three: one block runs on after it. It changes tokens little, so that colours stay in them."""
    folder = save_model(tmp_path_factory.mktemp("model"))
    backbone = load_backbone(folder, block=1, input_side=SIDE, device="cpu")
    with torch.no_grad():
        for block in backbone.block_list:
            for weight in block.parameters():
                weight.mul_(0.3)
    backbone.model.save_pretrained(folder)
    return load_backbone(folder, block=1, input_side=SIDE, device="cpu")


@pytest.fixture(scope="session")
def directions(tmp_path_factory):
    """Every direction of the width, up and down: the reconstruction is the token."""
    both = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)], dim=1)
    sae = SparseAutoencoder(both, torch.zeros(2 * WIDTH), both.T.contiguous(), torch.zeros(WIDTH), ReLU())
    save_sae(sae, folder := tmp_path_factory.mktemp("sae"))
    return load_sae(str(folder))


@pytest.fixture(scope="session")
def probed_run(probed, directions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    measure_scope(probed, directions, pictures(12), out=folder, top_images=4)
    return open_run(folder)


def write_coloured(root, split, count, seed):
    """Noisy pictures in a folder a colour."""
    random = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(np.array(colour) + random.normal(0, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture(scope="session")
def coloured_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("coloured")
    write_coloured(root, "train", 8, seed=0)
    write_coloured(root, "val", 5, seed=1)
    (root / "val" / "red" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="session")
def coloured(coloured_folder):
    return classification_task(str(coloured_folder / "train"), str(coloured_folder / "val"))
