"""A small random model, a small SAE and small pictures: fast, and every feature has something to do."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

GRID, PATCH, WIDTH, FEATURES = 6, 8, 32, 48
SIDE = GRID * PATCH


def save_model(folder: Path) -> Path:
    """A random DINOv2 of three blocks on a 6 x 6 grid."""
    torch.manual_seed(0)
    model = Dinov2Model(
        Dinov2Config(hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=4, patch_size=PATCH, image_size=SIDE)
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    """Smooth coloured noise of several sizes."""
    random = np.random.default_rng(seed)
    return [
        Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(
            (60 + 7 * (i % 4), 50 + 5 * (i % 3)), Image.Resampling.BICUBIC
        )
        for i in range(count)
    ]


def new_autoencoder(width, features, activation="topk", seed=0, window=None, **options):
    """A training autoencoder at its start."""
    from infoscope.training.config import TrainConfig
    from infoscope.training.processes import Processes
    from infoscope.training.variants import make_autoencoder

    config = TrainConfig(features=features, activation=activation, seed=seed, **options)
    return make_autoencoder(config, torch.zeros(1, width) if window is None else window, Processes(), "cpu")
