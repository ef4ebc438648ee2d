import json

import pytest
import torch

from infoscope.dictionaries.activations import JumpReLU, ReLU, TopK
from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError


def activation(kind, **params):
    return {"cls": kind, "params": params}


HEADERS = {
    "none": {"d_vit": 6, "exp_factor": 2, "l1_coeff": 4e-4, "use_ghost_grads": False, "seed": 0},
    "1, by class": {"schema": 1, "cls": "Relu", "cfg": {"d_vit": 6, "exp_factor": 2}},
    "1, nested": {"schema": 1, "cls": "SparseAutoencoderConfig", "cfg": {"d_vit": 6, "activation": activation("Relu")}},
    "2": {"schema": 2, "cfg": {"d_vit": 6, "exp_factor": 2, "activation": activation("Relu")}},
    "5": {"schema": 5, "cfg": {"d_model": 6, "d_sae": 14, "activation": activation("Relu", key="relu")}},
}


@pytest.fixture
def write(tmp_path):
    def write(tensors, header, config=None):
        with (tmp_path / "sae.pt").open("wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            torch.save(tensors, file)
        if config is not None:
            (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path / "sae.pt"

    return write


def pre_activations(weights, tokens, centred):
    W_enc, b_enc, W_dec, b_dec = (weights[key].double() for key in ("W_enc", "b_enc", "W_dec", "b_dec"))
    return (tokens - b_dec if centred else tokens) @ W_enc + b_enc, lambda codes: codes @ W_dec + b_dec


@pytest.mark.parametrize("schema", HEADERS)
def test_centred_or_not_by_the_header(write, weights, tokens, agrees, schema):
    pre, decode = pre_activations(weights, tokens, centred=schema in ("none", "1, by class"))
    codes = pre.clamp(min=0)
    sae = load_sae(write(weights, HEADERS[schema]))
    assert (sae.format, sae.activation) == ("saev", ReLU())
    agrees(sae, codes, decode(codes))


@pytest.mark.parametrize(
    "header",
    [
        {"schema": 1, "cls": "TopK", "cfg": {"top_k": 12}},
        {"schema": 4, "cfg": {"activation": activation("TopK", top_k=12, key="top-k")}},
    ],
)
def test_topk_keeps_negatives(write, weights, tokens, agrees, top, header):
    pre, decode = pre_activations(weights, tokens, centred=header["schema"] == 1)
    codes = top(pre, 12, relu=False)
    assert (codes < 0).any()
    sae = load_sae(write(weights, header))
    assert sae.activation == TopK(12, relu=False)
    agrees(sae, codes, decode(codes))


@pytest.mark.parametrize("threshold", [0.6, -0.3])
def test_batchtopk_encodes_by_its_threshold(write, weights, tokens, agrees, threshold):
    pre, decode = pre_activations(weights, tokens, centred=False)
    codes = torch.where(pre > max(threshold, 0.0), pre, 0.0)
    held = weights | {"activation.threshold": torch.tensor(threshold)}
    sae = load_sae(write(held, {"schema": 5, "cfg": {"activation": activation("BatchTopK", top_k=4)}}))
    assert isinstance(sae.activation, JumpReLU)
    agrees(sae, codes, decode(codes))


@pytest.mark.parametrize(
    ("config", "site"),
    [
        (None, None),
        ({"data": {"layer": -2, "patches": "patches"}}, {"hook": "blocks[-2]", "tokens": "patch"}),
        ({"data": {"layer": 10, "patches": "cls"}}, {"block": 10, "hook": "blocks[10]", "tokens": "cls"}),
        (
            {"train_data": {"layer": -2, "tokens": "content", "metadata": {"ckpt": "ViT-B-16/openai"}}},
            {"model": "openai/clip-vit-base-patch16", "block": 10, "hook": "blocks[-2]", "tokens": "patch"},
        ),
    ],
)
def test_sites(write, weights, config, site):
    assert load_sae(write(weights, HEADERS["5"], config)).site == site


@pytest.mark.parametrize("key", ["scale_mean", "scale_norm"])
def test_tokens_scaled_by_what_is_not_in_the_file(write, weights, key):
    path = write(weights, HEADERS["none"], {"data": {"layer": -2, key: True}})
    with pytest.raises(InfoscopeError, match=rf"statistics of its training set \({key} in config\.json\)"):
        load_sae(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"schema": 6, "cfg": {}}, "has schema 6, this infoscope reads up to 5"),
        ({"schema": "5", "cfg": {}}, "has schema '5'"),
        ({"schema": 5}, "its first line has no cfg"),
        ({"schema": 5, "cfg": {}}, "names no activation"),
        ({"schema": 5, "cfg": {"activation": activation("Softmax")}}, "activation 'Softmax' is not known"),
        ({"schema": 5, "cfg": {"activation": activation("TopK")}}, "top_k is None"),
        ({"schema": 3, "cfg": {"activation": activation("BatchTopK")}}, "before saev kept its threshold"),
        ({"schema": 5, "cfg": {"d_sae": 28, "activation": activation("Relu")}}, "says d_sae 28"),
    ],
)
def test_headers_that_are_refused(write, weights, header, message):
    with pytest.raises(InfoscopeError, match=message) as error:
        load_sae(write(weights, header))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b_enc": torch.full((14,), torch.nan)}, "NaN or infinity"),
        ({"W_dec": torch.zeros(6, 14)}, r"W_dec has shape \[6, 14\]"),
    ],
)
def test_weights_that_are_refused(write, weights, changes, message):
    with pytest.raises(InfoscopeError, match=message):
        load_sae(write(weights | changes, HEADERS["5"]))


@pytest.mark.parametrize("data", [b"{", b"{}", b'{"schema": 5, "cfg": {}}\n', b"[]\n", b'{"schema": 5}\nPK\x03\x04'])
def test_broken_files(tmp_path, data):
    (tmp_path / "sae.pt").write_bytes(data)
    with pytest.raises(InfoscopeError, match=r"sae\.pt") as error:
        load_sae(tmp_path)
    assert "\n" not in str(error.value)
