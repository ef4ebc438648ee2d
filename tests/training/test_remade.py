"""Dictionaries without training, made again from what a run says of them."""

import numpy as np
import pytest

from infoscope.backbones.loading import load_backbone
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError
from infoscope.measurement.identity import dictionary_record
from infoscope.training.untrained import is_untrained, make_dictionary, remake_dictionary
from small import SIDE, WIDTH, pictures, save_model


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return load_backbone(save_model(tmp_path_factory.mktemp("model")), block=1, input_side=SIDE, device="cpu")


@pytest.mark.parametrize("centre", [True, False])
def test_given_directions(backbone, tmp_path, centre):
    np.save(tmp_path / "given.npy", np.eye(2, WIDTH, dtype=np.float32))
    options = {"images": pictures(6)}
    made = make_dictionary(f"directions:{tmp_path}/given.npy", backbone, centre=centre, **options)
    record = dictionary_record(made)
    assert is_untrained(record)
    assert remake_dictionary(record, backbone, **options).sha256 == made.sha256
    np.save(tmp_path / "given.npy", np.eye(2, WIDTH, k=1, dtype=np.float32))
    with pytest.raises(InfoscopeError, match="cannot be made again"):
        remake_dictionary(record, backbone, **options)


def test_a_saved_one_is_a_file_like_any_sae(backbone, tmp_path):
    made = make_dictionary("channels", backbone, pictures(6))
    save_sae(made, tmp_path / "channels")
    assert is_untrained(dictionary_record(made))
    assert not is_untrained(dictionary_record(load_sae(tmp_path / "channels")))
