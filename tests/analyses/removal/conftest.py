"""A small random model with registers and SAEs of its tokens, for every way an SAE may encode."""

import numpy as np
import pytest
import torch
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.backbones.loading import load_backbone
from infoscope.dictionaries.activations import ReLU, TopK
from infoscope.dictionaries.sae import SparseAutoencoder, TokenNorm
from infoscope.images.source import open_images
from infoscope.images.views import Views
from small import FEATURES, GRID, PATCH, SIDE, WIDTH, pictures

PREFIX = 3


def make_sae(activation, norm=None):
    generator = torch.Generator().manual_seed(5)
    W_enc, W_dec = (torch.randn(shape, generator=generator) for shape in ((WIDTH, FEATURES), (FEATURES, WIDTH)))
    b_enc, b_dec = torch.randn(FEATURES, generator=generator), torch.randn(WIDTH, generator=generator)
    return SparseAutoencoder(W_enc, b_enc, W_dec / 8, b_dec, activation, token_norm=norm)


@pytest.fixture(scope="session")
def saes():
    return {
        "topk": make_sae(TopK(6)),
        "relu": make_sae(ReLU()),
        "signed": make_sae(TopK(30, relu=False)),
        "layer_norm": make_sae(TopK(6), TokenNorm("layer_norm")),
        "unit_norm": make_sae(ReLU(), TokenNorm("unit_norm")),
    }


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    torch.manual_seed(0)
    model = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=4, patch_size=PATCH, image_size=SIDE,
            num_register_tokens=PREFIX - 1,
        )
    )  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3)
    folder = tmp_path_factory.mktemp("registers")
    model.save_pretrained(folder)
    return load_backbone(folder, block=1, input_side=SIDE, device="cpu")


@pytest.fixture(scope="session")
def images():
    return open_images(pictures(12))


@pytest.fixture(scope="session")
def pixels(images):
    view = Views(PATCH, GRID, 0).full
    return np.stack([view(images[index]) for index in range(5)])


@pytest.fixture(scope="session")
def group():
    return FeatureGroup("some", "list", np.arange(0, FEATURES, 3, dtype=np.uint32))
