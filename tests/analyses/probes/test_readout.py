"""What is kept of a variant's outputs, against the model by itself."""

import numpy as np
import pytest
import torch

from infoscope.analyses.probes.store import Readout
from infoscope.backbones.loading import load_backbone
from infoscope.backbones.whole_pass import WholePass
from infoscope.images.views import Views
from small import GRID, PATCH, SIDE, WIDTH, pictures, save_model


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return load_backbone(save_model(tmp_path_factory.mktemp("model")), block=0, input_side=SIDE, device="cpu")


@pytest.fixture(scope="module")
def pixels():
    view = Views(PATCH, GRID, 0)
    return np.stack([view.full(picture) for picture in pictures(3)])


@pytest.fixture(scope="module")
def hidden(backbone, pixels):
    """Of transformers: after each block, and the last one after the final norm."""
    with torch.no_grad():
        output = backbone.model(backbone.normalise(pixels), output_hidden_states=True)
    return [*output.hidden_states[1:]], output.last_hidden_state


def test_the_rest_of_the_network_is_read_after_the_final_norm(backbone, pixels, hidden):
    readout = Readout((("cls", -2), ("cls", -1), ("mean", -1)), patches=True)
    assert readout.blocks(backbone, "rerun") == (1, 2)
    assert {name: array.shape for name, array in readout.arrays(backbone).items()} == {
        "vectors": (3 * WIDTH,),
        "patches": (GRID**2, WIDTH),
    }
    outputs = WholePass(backbone, pixels, readout.blocks(backbone, "rerun")).outputs
    found = readout.take(backbone, outputs, "rerun")
    blocks, last = hidden
    with torch.no_grad():
        before = backbone.model.layernorm(blocks[1])
    expected = torch.cat([before[:, 0], last[:, 0], last[:, 1:].mean(1)], dim=1)
    np.testing.assert_allclose(found["vectors"], expected, atol=1e-5)
    np.testing.assert_allclose(found["patches"], last[:, 1:], atol=1e-5)


def test_at_the_site_the_edited_block_is_read_as_it_is(backbone, pixels, hidden):
    readout = Readout((("mean", -1),), patches=True, final_norm=False)
    assert readout.blocks(backbone, "site") == (0,)
    outputs = WholePass(backbone, pixels, [0]).outputs
    found = readout.take(backbone, outputs, "site")
    np.testing.assert_allclose(found["vectors"], hidden[0][0][:, 1:].mean(1), atol=1e-5)
    np.testing.assert_allclose(found["patches"], hidden[0][0][:, 1:], atol=1e-5)
