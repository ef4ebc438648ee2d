"""A small random model, a small random SAE and small pictures: fast, and every feature has something to do."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

from infoscope.backbones.loading import load_backbone
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.source import open_images

GRID, PATCH, WIDTH, FEATURES = 6, 8, 32, 48


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=4, patch_size=PATCH, image_size=GRID * PATCH
    )
    folder = tmp_path_factory.mktemp("model")
    model = Dinov2Model(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    return load_backbone(folder, block=1, input_side=GRID * PATCH, device="cpu")


@pytest.fixture(scope="session")
def sae():
    generator = torch.Generator().manual_seed(1)
    W_enc = torch.randn(WIDTH, FEATURES, generator=generator)
    return SparseAutoencoder(W_enc, torch.zeros(FEATURES), W_enc.T.contiguous() / WIDTH, torch.zeros(WIDTH), TopK(6))


def pictures(count, seed=0):
    """Smooth coloured noise of several sizes."""
    random = np.random.default_rng(seed)
    return [
        Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(
            (60 + 7 * (i % 4), 50 + 5 * (i % 3)), Image.Resampling.BICUBIC
        )
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def images():
    return open_images(pictures(40))
