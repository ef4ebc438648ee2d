"""A small model with planted outlier tokens, and the same model without."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from infoscope.backbones.loading import load_backbone
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.source import open_images
from infoscope.measurement.measure import measure_scope
from infoscope.runtime.run import open_run
from small import GRID, SIDE, WIDTH, pictures, save_model

LENGTH = 500.0
IMAGES = 80


class Planted(nn.Module):
    """A block whose output has one patch token of high norm: where is chosen by the whole picture, and what it holds is
    the picture's mean token, nothing of its patch or place."""

    def __init__(self, block: nn.Module, prefix: int):
        super().__init__()
        self.block, self.prefix = block, prefix

    def forward(self, *arguments, **options):
        output = self.block(*arguments, **options)
        tokens = (output[0] if isinstance(output, tuple) else output).clone()
        mean = tokens[:, self.prefix :].mean(1)
        # Digits behind the point: far apart for pictures that are alike.
        chance = (mean[:, :8].abs() * 100).frac().sum(1).frac()
        place = self.prefix + (chance * (tokens.shape[1] - self.prefix)).long()
        outlier = torch.zeros_like(mean)
        outlier[:, -1] = LENGTH
        outlier[:, -9:-1] = mean[:, -9:-1] / 2
        tokens[torch.arange(len(tokens)), place] = outlier
        return (tokens, *output[1:]) if isinstance(output, tuple) else tokens


def load_quiet(folder):
    """A model whose tokens are little else than their patch's pixels and their place, so that these can be read."""
    backbone = load_backbone(save_model(folder), block=1, input_side=SIDE, device="cpu")
    generator = torch.Generator().manual_seed(2)
    row, column = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    ways = 2 * torch.randn(2, WIDTH, generator=generator)
    with torch.no_grad():
        for block in backbone.block_list:
            for weight in block.parameters():
                weight.mul_(0.1)
        backbone.position_table[0, 1:] = row.reshape(-1, 1) * ways[0] + column.reshape(-1, 1) * ways[1]
    return backbone


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    return load_quiet(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    backbone = load_quiet(tmp_path_factory.mktemp("planted"))
    blocks = backbone.block_list
    blocks[1] = Planted(blocks[1], backbone.prefix_tokens)
    return backbone


@pytest.fixture(scope="session")
def sae():
    """The directions of the width, up and down: the last one up is what only the planted token holds."""
    both = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)], dim=1)
    return SparseAutoencoder(both, torch.zeros(2 * WIDTH), both.T.contiguous(), torch.zeros(WIDTH), TopK(8))


@pytest.fixture(scope="session")
def images():
    return open_images(pictures(IMAGES))


@pytest.fixture(scope="session")
def run(planted, sae, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    measure_scope(planted, sae, images, out=folder, top_images=8, noise_images=0)
    return open_run(folder)


@pytest.fixture(scope="session")
def at():
    """The same model read at another block."""
    return lambda backbone, block: replace(backbone, block=block)
