"""Reconstructions put into the model, against transformers itself with the tokens replaced by hand."""

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTModel

from infoscope.backbones.loading import load_backbone
from infoscope.backbones.whole_pass import WholePass
from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from infoscope.training.config import TrainConfig
from infoscope.training.passes import TokenPasses
from infoscope.training.processes import Processes
from infoscope.training.train import look_downstream


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    config = ViTConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
    )
    ViTModel(config).save_pretrained(path)
    return path


@pytest.fixture
def backbone(model_path):
    return load_backbone(str(model_path), block=1, device="cpu")


@pytest.fixture(scope="module")
def photographs():
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


def by_hand(backbone, pixels, edit):
    """Block by block, without hooks."""
    model = backbone.model
    with torch.no_grad():
        stream = model.embeddings(backbone.normalise(pixels), interpolate_pos_encoding=True)
        for number, block in enumerate(backbone.block_list):
            output = block(stream)
            stream = output[0] if isinstance(output, tuple) else output
            if number == backbone.block:
                stream = edit(stream.clone())
        return model.layernorm(stream)


def test_the_rest_of_the_model_gets_the_edited_tokens(backbone, photographs):
    def edit(stream):
        stream[:, 3] = 7.0
        return stream

    expected = by_hand(backbone, photographs[:5], edit)
    untouched = WholePass(backbone, photographs[:5])
    edited = untouched.run_from(edit(untouched.stream.clone()))
    torch.testing.assert_close(edited.last, expected, atol=1e-5, rtol=1e-5)
    assert (expected - by_hand(backbone, photographs[:5], lambda stream: stream)).abs().max() > 0.01


def test_neurons_are_no_stream_to_go_on_with(backbone, photographs):
    with pytest.raises(InfoscopeError, match="edit its output"):
        WholePass(backbone.at(reads="neurons"), photographs[:1])


def make_passes(backbone, photographs, token_set="patch", processes=None):
    config = TrainConfig(features=20, k=4, tokens=16 * 36)
    return TokenPasses(backbone, open_images(photographs), "stretch", config, 3, 1, processes or Processes(), token_set)


@pytest.mark.parametrize(("token_set", "chosen"), [("patch", slice(1, None)), ("all", slice(None)), ("cls", slice(1))])
def test_equals_the_model_with_the_tokens_replaced_by_hand(backbone, photographs, token_set, chosen):
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(16, 20, generator=generator), torch.zeros(20), torch.randn(20, 16, generator=generator) / 4
    saes = [
        SparseAutoencoder(*weights, torch.zeros(16), ReLU()),
        SparseAutoencoder(torch.eye(16), torch.full((16,), 50.0), torch.eye(16), torch.full((16,), -50.0), ReLU()),
    ]
    passes = make_passes(backbone, photographs, token_set)
    first, second = look_downstream(saes, passes)
    held_out = passes.order[: passes.held_out // passes.per_image]
    assert first.images == len(held_out) > 1

    def edit(stream):
        stream[:, chosen] = saes[0](stream[:, chosen].flatten(0, 1)).view(stream[:, chosen].shape)
        return stream

    own, edited = (by_hand(backbone, photographs[held_out], e).double() for e in (lambda stream: stream, edit))
    for found, tokens in ((first.fvu_patches, slice(1, None)), (first.fvu_cls, slice(1))):
        mine, its = own[:, tokens].flatten(0, 1), edited[:, tokens].flatten(0, 1)
        assert found == pytest.approx(
            float((mine - its).square().sum() / (mine - mine.mean(0)).square().sum()), rel=1e-3
        )
    # A dictionary that loses nothing.
    assert second.fvu_patches == pytest.approx(0, abs=1e-8)
    assert max(first.fvu_patches, first.fvu_cls) > 1e-3


def test_nothing_to_look_at_is_said_so(backbone, photographs):
    sae = SparseAutoencoder(torch.eye(16), torch.zeros(16), torch.eye(16), torch.zeros(16), ReLU())
    passes = make_passes(backbone, photographs[:5])
    assert passes.held_out // passes.per_image == 0
    assert look_downstream([sae], passes) == [None]
