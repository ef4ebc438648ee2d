import json

import pytest
import torch

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError

CONFIG = {
    "model_name": "open-clip:laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K", "hook_point_layer": 9,
    "layer_subtype": "hook_resid_post", "hook_point": "blocks.9.hook_resid_post", "d_in": 6, "expansion_factor": 2,
    "d_sae": 14, "activation_fn_str": "relu", "activation_fn_kwargs": {}, "cls_token_only": False,
    "use_patches_only": False, "normalize_activations": "layer_norm", "architecture": "standard",
    "dtype": {"__type__": "torch.dtype", "value": "torch.float32"},
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """``weights.pt``, a bare state dict, and ``config.json``; None takes a key out."""

    def write(tensors, **changes):
        torch.save(tensors, tmp_path / "weights.pt")
        config = {key: value for key, value in (CONFIG | changes).items() if value is not None}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return write


def formula(weights, tokens, activation, norm=True, gates=None):
    """Codes and reconstruction as the project writes them."""
    W_enc, b_enc, W_dec, b_dec = (weights[key].double() for key in ("W_enc", "b_enc", "W_dec", "b_dec"))
    shift, scale = tokens.mean(-1, keepdim=True), tokens.std(-1, keepdim=True)
    inside = (tokens - shift) / (scale + 1e-5) if norm else tokens
    if gates is not None:
        opened = (inside - b_dec) @ W_enc + gates["b_gate"].double() > 0
        weight = W_enc * gates["r_mag"].double().exp()
        codes = opened * ((inside - b_dec) @ weight + gates["b_mag"].double()).clamp(min=0)
    else:
        codes = activation((inside - b_dec) @ W_enc + b_enc)
    out = codes @ W_dec + b_dec
    return codes, out * scale + shift if norm else out


def test_codes_and_reconstructions(write, weights, tokens, agrees):
    sae = load_sae(write(weights))
    assert sae.format == "prisma"
    hook = {"block": 9, "hook": "blocks.9.hook_resid_post", "tokens": "all"}
    assert sae.site == {"model": "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K"} | hook
    agrees(sae, *formula(weights, tokens, lambda pre: pre.clamp(min=0)))


def test_the_layer_norm_is_the_default(write, weights, tokens, agrees):
    agrees(
        load_sae(write(weights, normalize_activations=None)),
        *formula(weights, tokens, lambda pre: pre.clamp(min=0)),
    )


def test_without_a_norm(write, weights, tokens, agrees):
    sae = load_sae(write(weights, normalize_activations="none"))
    agrees(sae, *formula(weights, tokens, lambda pre: pre.clamp(min=0), norm=False))


def test_topk(write, weights, tokens, agrees, top):
    sae = load_sae(write(weights, activation_fn_str="topk", activation_fn_kwargs={"k": 11}))
    assert sae.activation == TopK(11)
    agrees(sae, *formula(weights, tokens, lambda pre: top(pre, 11)))


def test_gated(write, weights, gates, tokens, agrees):
    sae = load_sae(write(weights | gates, architecture="gated"))
    agrees(sae, *formula(weights, tokens, None, gates=gates))


@pytest.mark.parametrize("key", ["cfg", "config"])
def test_a_pickled_configuration(tmp_path, weights, tokens, agrees, foreign, key):
    """``n_images_*.pt``: an object of a class that is not installed, beside the weights; the last is taken."""
    config = foreign("VisionModelSAERunnerConfig", **(CONFIG | {"dtype": torch.float32, "d_sae": 14}))
    for images, factor in ((900, 0.5), (1000, 1.0)):
        held = {name: factor * value for name, value in weights.items()}
        foreign.save({key: config, "state_dict": held}, tmp_path / f"n_images_{images}.pt")
    torch.save(torch.zeros(14), tmp_path / "n_images_1000_log_feature_sparsity.pt")
    agrees(load_sae(tmp_path), *formula(weights, tokens, lambda pre: pre.clamp(min=0)))
    agrees(load_sae(tmp_path / "n_images_1000.pt"), *formula(weights, tokens, lambda pre: pre.clamp(min=0)))


def test_the_oldest_layout(tmp_path, weights, tokens, agrees):
    config = {"hook_point": "blocks.9.hook_mlp_out", "normalize_activations": "none"}
    torch.save({"config": config, "autoencoder": {"state_dict": weights}}, tmp_path / "n_images_5.pt")
    sae = load_sae(tmp_path)
    assert sae.site == {"hook": "blocks.9.hook_mlp_out"}
    agrees(sae, *formula(weights, tokens, lambda pre: pre.clamp(min=0), norm=False))


@pytest.mark.parametrize(
    ("changes", "tokens_of"),
    [({"cls_token_only": True}, "cls"), ({"use_patches_only": True}, "patch"), ({"cls_token_only": None}, None)],
)
def test_which_tokens(write, weights, changes, tokens_of):
    assert load_sae(write(weights, **changes)).site.get("tokens") == tokens_of


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "jumprelu"}, "architecture 'jumprelu' is not known"),
        ({"activation_fn_str": "tanh-relu"}, "activation function tanh-relu"),
        ({"activation_fn_str": "topk"}, "topk with {}"),
        ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3, "postact_fn": "x"}}, "postact_fn"),
        ({"normalize_activations": "expected_average_only_in"}, "statistics over its training set"),
        ({"normalize_activations": "rms"}, "normalize_activations 'rms' is not known"),
        ({"d_sae": 28}, "says d_sae 28"),
    ],
)
def test_configurations_that_are_refused(write, weights, changes, message):
    with pytest.raises(InfoscopeError, match=message):
        load_sae(write(weights, **changes))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"W_dec": torch.zeros(6, 14)}, r"W_dec has shape \[6, 14\]"),
        ({"b_dec": torch.full((6,), torch.nan)}, "NaN or infinity"),
    ],
)
def test_weights_that_are_refused(write, weights, tensors, message):
    with pytest.raises(InfoscopeError, match=message):
        load_sae(write(weights | tensors))


def test_missing_tensors(write, weights):
    del weights["b_enc"]
    with pytest.raises(InfoscopeError, match=r"weights\.pt lacks b_enc"):
        load_sae(write(weights))


def test_weights_without_their_configuration(write, weights):
    directory = write(weights)
    (directory / "config.json").unlink()
    with pytest.raises(InfoscopeError, match=r"no configuration, .* put its config\.json beside it"):
        load_sae(directory)
