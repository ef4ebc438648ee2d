import pytest
import torch

from infoscope.backbones.loading import load_backbone
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.source import open_images
from small import FEATURES, SIDE, WIDTH, pictures, save_model


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    return load_backbone(save_model(tmp_path_factory.mktemp("model")), block=1, input_side=SIDE, device="cpu")


@pytest.fixture(scope="session")
def sae():
    generator = torch.Generator().manual_seed(1)
    W_enc = torch.randn(WIDTH, FEATURES, generator=generator)
    return SparseAutoencoder(W_enc, torch.zeros(FEATURES), W_enc.T.contiguous() / WIDTH, torch.zeros(WIDTH), TopK(6))


@pytest.fixture(scope="session")
def images():
    return open_images(pictures(24))
