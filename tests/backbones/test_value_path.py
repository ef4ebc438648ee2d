"""The crops are aligned to the pixel: a model without mixing or positions sees the same patches in both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from infoscope.backbones.loading import load_backbone
from infoscope.images.views import Views

VALUE_PATH = "value_path"


@pytest.fixture
def value_path(monkeypatch):
    """An attention that passes each token's own value on, under a name that transformers' models can be given."""

    def attention(module, query, key, value, attention_mask, **options):
        return value.transpose(1, 2).contiguous(), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, VALUE_PATH, attention)
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, VALUE_PATH, lambda *given, **options: None)

    def use(backbone):
        backbone.model.config._attn_implementation = VALUE_PATH

    return use


def overlaps(backbone, shift, image):
    """Both crops' tokens on the patches they share, ``[row, column, width]`` each."""
    grid = backbone.grid
    crops = Views(backbone.patch_size, grid, shift).crops(image)
    first, second = backbone.tokens(crops).unflatten(1, (grid, grid))
    return first[shift:, shift:], second[: grid - shift, : grid - shift]


@pytest.fixture
def image():
    noise = np.random.default_rng(5).integers(0, 256, (45, 67, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.slow
def test_both_crops_give_equal_tokens_on_the_overlap(checkpoint, value_path, image):
    backbone = load_backbone(checkpoint.directory, -1, device="cpu")
    value_path(backbone)
    if backbone.position_table is not None:
        backbone.position_table.zero_()
    for shift in range(1, backbone.grid - 1):
        first, second = overlaps(backbone, shift, image)
        assert len(first) == backbone.grid - shift
        assert first.flatten(0, 1).std(0).min() > 0.1
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
        # One patch to the side they are other pixels, and other tokens.
        assert (first[1:] - second[:-1]).abs().amax(-1).min() > 0.1


def test_positions_alone_tell_the_crops_apart(checkpoint, value_path, image):
    backbone = load_backbone(checkpoint.directory, -1, device="cpu")
    value_path(backbone)
    first, second = overlaps(backbone, 2, image)
    if backbone.position_table is None:
        # Rotary positions act through attention only, which is gone.
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
    else:
        assert (first - second).abs().amax(-1).min() > 1e-2


def test_attention_alone_tells_the_crops_apart(checkpoint, image):
    backbone = load_backbone(checkpoint.directory, -1, device="cpu")
    if backbone.position_table is not None:
        backbone.position_table.zero_()
    first, second = overlaps(backbone, 2, image)
    assert (first - second).abs().amax(-1).min() > 1e-3


def test_on_the_real_model(dinov2_path, imagenette, value_path):
    file = sorted((imagenette / "val").rglob("*.*"))[7]
    image = Image.open(file).convert("RGB")
    backbone = load_backbone(dinov2_path, 10, device="cpu")
    first, second = overlaps(backbone, 2, image)
    assert (first - second).abs().amax(-1).median() > 0.1
    value_path(backbone)
    backbone.position_table.zero_()
    for shift in (1, 2, 5):
        first, second = overlaps(backbone, shift, image)
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
