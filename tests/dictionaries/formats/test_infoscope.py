import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from infoscope.dictionaries.activations import ReLU, TopK
from infoscope.dictionaries.formats import infoscope
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError

SITE = {"model": "openai/clip-vit-base-patch16", "revision": None, "block": 10, "patch_size": 16}


def random_sae(activation=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((6, 10), (10,), (10, 6), (6,))
    return SparseAutoencoder(*(torch.randn(shape, generator=generator) for shape in shapes), activation or TopK(3))


@pytest.fixture
def saved(tmp_path):
    save_sae(random_sae(), tmp_path / "sae", site=SITE)
    return tmp_path / "sae"


def describe(directory, **changes):
    """Change ``sae.json`` on purpose, so without its checksum; None takes a key out."""
    path = directory / "sae.json"
    value = json.loads(path.read_text()) | {"checksum": None} | changes
    path.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))


def replace_weights(directory, **changes):
    """Change ``sae.safetensors``, and the hash in ``sae.json`` with it; None takes a tensor out."""
    path = directory / "sae.safetensors"
    weights = load_file(path) | changes
    save_file({key: weight for key, weight in weights.items() if weight is not None}, path)
    describe(directory, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("activation", [ReLU(), TopK(3)], ids=str)
def test_round_trip_is_bit_equal(tmp_path, activation):
    sae = random_sae(activation)
    save_sae(sae, tmp_path / "a" / "sae", site=SITE, training={"seed": 0}, curves={"step": [1, 2], "fvu": [0.5, 0.4]})
    again = load_sae(tmp_path / "a" / "sae")
    for key, weight in sae.weights().items():
        assert torch.equal(again.weights()[key], weight)
    assert again.activation == activation
    assert again.site == SITE
    assert again.sha256 == sae.sha256
    tokens = torch.randn(7, 6)
    assert torch.equal(again(tokens), sae(tokens))
    assert json.loads((tmp_path / "a" / "sae" / "training.json").read_text()) == {"step": [1, 2], "fvu": [0.5, 0.4]}
    description = json.loads((tmp_path / "a" / "sae" / "sae.json").read_text())
    assert list(description["files"]) == ["training.json"]
    assert {key: value for key, value in description.items() if key not in ("checksum", "files")} == {
        "format": "infoscope",
        "format_version": 2,
        "d_in": 6,
        "d_sae": 10,
        "activation": {"name": "relu"} if activation == ReLU() else {"name": "topk", "k": 3, "relu": True},
        "token_norm": None,
        "site": SITE,
        "training": {"seed": 0},
        "sha256": sae.sha256,
    }


def test_a_loaded_sae_saved_again_keeps_its_site(saved, tmp_path):
    save_sae(load_sae(saved), tmp_path / "again")
    assert load_sae(tmp_path / "again").site == SITE
    save_sae(random_sae(), tmp_path / "none")
    assert load_sae(tmp_path / "none").site is None


def test_an_sae_replaces_another(saved):
    save_sae(random_sae(seed=1), saved)
    assert load_sae(saved).sha256 == random_sae(seed=1).sha256


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_save_leaves_no_directory(tmp_path, monkeypatch, error):
    def interrupted(*_):
        raise error

    monkeypatch.setattr(infoscope, "write_sealed", interrupted)
    with pytest.raises(error):
        save_sae(random_sae(), tmp_path / "sae")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_replacement_is_noticed(saved, monkeypatch):
    (saved / "notes.txt").write_text("mine")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(infoscope, "write_sealed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_sae(random_sae(seed=1), saved)
    assert (saved / "notes.txt").read_text() == "mine"
    with pytest.raises(InfoscopeError, match=r"sae\.json was written for other weights than sae\.safetensors holds"):
        load_sae(saved)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InfoscopeError, match="cannot write"):
        save_sae(random_sae(), tmp_path / "file" / "sae")


@pytest.mark.parametrize("file", ["sae.json", "sae.safetensors"])
def test_a_missing_file(saved, file):
    (saved / file).unlink()
    with pytest.raises(InfoscopeError, match=f"has no {file}; its writing was interrupted"):
        load_sae(saved)


@pytest.mark.parametrize("size", [0, 5, 100, 300])
def test_truncated_weights(saved, size):
    path = saved / "sae.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InfoscopeError, match=r"sae\.safetensors is cut short or not a safetensors file"):
        load_sae(saved)


def test_weights_with_a_flipped_bit(saved):
    path = saved / "sae.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InfoscopeError, match="was written for other weights"):
        load_sae(saved)


@pytest.mark.parametrize("text", ["", "{", "\x00"])
def test_description_that_is_not_json(saved, text):
    (saved / "sae.json").write_text(text)
    with pytest.raises(InfoscopeError, match=r"sae\.json is not JSON"):
        load_sae(saved)


@pytest.mark.parametrize("text", ["[]", "3", '{"format": "another"}'])
def test_description_of_something_else(saved, text):
    (saved / "sae.json").write_text(text)
    with pytest.raises(InfoscopeError, match='does not say "format": "infoscope"'):
        load_sae(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 3}, "format_version 3, this infoscope reads up to 2: install the version that wrote it"),
        ({"format_version": "1"}, "format_version 1, this infoscope reads up to 2"),
        ({"format_version": None}, "format_version None"),
        ({"activation": {"name": "softmax"}}, r"sae\.json: unknown activation function softmax"),
        ({"activation": {"name": "topk"}}, r"sae\.json: activation function topk does not take"),
        ({"activation": "topk"}, "activation is not an object"),
        ({"d_in": None, "d_sae": None}, "lacks d_in, d_sae"),
        ({"d_sae": 11}, r"has width 6 and 10 features, but sae\.json says 6 and 11"),
        ({"site": "CLIP"}, "site is neither null nor an object"),
    ],
)
def test_descriptions_that_are_refused(saved, changes, message):
    describe(saved, **changes)
    with pytest.raises(InfoscopeError, match=message) as error:
        load_sae(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"W_dec": None, "b_enc": None}, "lacks b_enc, W_dec"),
        ({"W_dec": torch.zeros(6, 10)}, r"W_dec has shape \[6, 10\], expected \[10, 6\]"),
        ({"W_enc": torch.full((6, 10), float("nan"))}, "W_enc holds NaN or infinity"),
        ({"b_dec": torch.zeros(6, dtype=torch.int32)}, "b_dec holds torch.int32"),
    ],
)
def test_weights_that_are_refused(saved, changes, message):
    replace_weights(saved, **changes)
    with pytest.raises(InfoscopeError, match=message) as error:
        load_sae(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["extra", "threshold", "b_gate"])
def test_tensors_that_nothing_reads_are_refused(saved, name):
    replace_weights(saved, **{name: torch.zeros(10)})
    with pytest.raises(InfoscopeError, match=rf"holds {name}, which activation topk\(3\) does not use"):
        load_sae(saved)


def test_another_digit_in_the_description_is_named(saved):
    text = (saved / "sae.json").read_text()
    assert '"k": 3' in text
    (saved / "sae.json").write_text(text.replace('"k": 3', '"k": 2'))
    with pytest.raises(InfoscopeError, match=r"sae\.json is damaged, for it does not match its own checksum"):
        load_sae(saved)


@pytest.mark.parametrize(
    "site", [{"block": "10"}, {"block": [1]}, {"model": 3}, {"input_side": -5}, {"mean_token_norm": "long"}]
)
def test_a_site_of_other_types_is_one_line(saved, site):
    describe(saved, site=site)
    with pytest.raises(InfoscopeError, match=r"sae\.json: site\."):
        load_sae(saved)
