import json

import pytest
import torch
from safetensors.torch import save_file

from infoscope.dictionaries.activations import JumpReLU, TopK
from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError

METADATA = {"model_name": "openai/clip-vit-base-patch32", "hook_name": "blocks.9.hook_resid_post"}


@pytest.fixture
def write(tmp_path):
    """Writes a checkpoint of version 6; None takes a key out."""

    def write(tensors, **config):
        default = {
            "d_in": 6, "d_sae": 14, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
            "normalize_activations": "none", "reshape_activations": "none",
            "metadata": {"sae_lens_version": "6.54.12", **METADATA}, "architecture": "standard",
        }  # fmt: skip
        config = {key: value for key, value in (default | config).items() if value is not None}
        (tmp_path / "cfg.json").write_text(json.dumps(config))
        save_file(tensors, tmp_path / "sae_weights.safetensors")
        return tmp_path

    return write


def double(tensors):
    return [tensors[key].double() for key in ("W_enc", "b_enc", "W_dec", "b_dec")]


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("architecture", ["standard", "topk"])
def test_codes_and_reconstructions(write, weights, tokens, agrees, top, architecture, centred):
    W_enc, b_enc, W_dec, b_dec = double(weights)
    pre = (tokens - b_dec if centred else tokens) @ W_enc + b_enc
    codes = pre.clamp(min=0) if architecture == "standard" else top(pre, 9)
    sae = load_sae(write(weights, architecture=architecture, apply_b_dec_to_input=centred, k=9))
    assert (sae.format, sae.site) == (
        "saelens",
        {"model": METADATA["model_name"], "block": 9, "hook": METADATA["hook_name"]},
    )
    agrees(sae, codes, codes @ W_dec + b_dec)


def test_centring_is_the_default(write, weights, tokens, agrees):
    W_enc, b_enc, W_dec, b_dec = double(weights)
    codes = ((tokens - b_dec) @ W_enc + b_enc).clamp(min=0)
    agrees(load_sae(write(weights, apply_b_dec_to_input=None)), codes, codes @ W_dec + b_dec)


def test_topk_leaves_no_negative_code(write, weights, tokens):
    sae = load_sae(write(weights, architecture="topk", k=13))
    assert sae.activation == TopK(13)
    assert (sae.encode(tokens.float()) >= 0).all()


@pytest.mark.parametrize("key", ["threshold", "log_threshold"])
def test_jumprelu(write, weights, thresholds, tokens, agrees, key):
    W_enc, b_enc, W_dec, b_dec = double(weights)
    pre = (tokens - b_dec) @ W_enc + b_enc
    codes = torch.where(pre > thresholds.double(), pre, 0.0)
    held = thresholds if key == "threshold" else thresholds.log()
    agrees(load_sae(write(weights | {key: held}, architecture="jumprelu")), codes, codes @ W_dec + b_dec)


def test_gated(write, weights, gates, tokens, agrees):
    W_enc, _, W_dec, b_dec = double(weights)
    b_gate, r_mag, b_mag = (gates[key].double() for key in ("b_gate", "r_mag", "b_mag"))
    centred = tokens - b_dec
    magnitude = (centred @ (W_enc * r_mag.exp()) + b_mag).clamp(min=0)
    codes = (centred @ W_enc + b_gate > 0) * magnitude
    del weights["b_enc"]
    agrees(load_sae(write(weights | gates, architecture="gated")), codes, codes @ W_dec + b_dec)


def test_scores_times_the_decoder_s_norm(write, weights, tokens, agrees, top):
    """The rescale changes which entries top-k keeps, and comes off once in the reconstruction."""
    weights["W_dec"] *= torch.linspace(0.1, 4.0, 14)[:, None]
    W_enc, b_enc, W_dec, b_dec = double(weights)
    pre = (tokens - b_dec) @ W_enc + b_enc
    norm = W_dec.norm(dim=1)
    codes = top(pre * norm, 4)
    assert ((codes > 0) != (top(pre, 4) > 0)).any()
    sae = load_sae(write(weights, architecture="topk", k=4, rescale_acts_by_decoder_norm=True))
    agrees(sae, codes, (codes / norm) @ W_dec + b_dec)


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
@pytest.mark.parametrize("rescaled", [True, False])
def test_a_training_checkpoint_of_batchtopk(write, weights, tokens, agrees, architecture, rescaled):
    weights["W_dec"] *= torch.linspace(0.5, 2.0, 14)[:, None]
    W_enc, b_enc, W_dec, b_dec = double(weights)
    norm = W_dec.norm(dim=1) if rescaled else torch.ones(14).double()
    pre = ((tokens - b_dec) @ W_enc + b_enc) * norm
    codes = torch.where(pre > 0.4, pre, 0.0)
    held = weights | {"topk_threshold": torch.tensor(0.4, dtype=torch.float64)}
    sae = load_sae(write(held, architecture=architecture, k=4.5, rescale_acts_by_decoder_norm=rescaled))
    assert isinstance(sae.activation, JumpReLU)
    agrees(sae, codes, (codes / norm) @ W_dec + b_dec)


@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale"])
def test_norms_of_each_token(write, weights, tokens, agrees, kind):
    W_enc, b_enc, W_dec, b_dec = double(weights)
    if kind == "layer_norm":
        shift, scale = tokens.mean(-1, keepdim=True), tokens.std(-1, keepdim=True)
        inside = (tokens - shift) / (scale + 1e-5)
    else:
        shift, scale = 0.0, tokens.norm(dim=-1, keepdim=True) / 6**0.5
        inside = tokens / scale
    codes = ((inside - b_dec) @ W_enc + b_enc).clamp(min=0)
    sae = load_sae(write(weights, normalize_activations=kind))
    agrees(sae, codes, (codes @ W_dec + b_dec) * scale + shift)


def test_versions_before_6(write, weights, tokens, agrees, top):
    """Flat keys under their old names."""
    W_enc, b_enc, W_dec, b_dec = double(weights)
    codes = top((tokens - b_dec) @ W_enc + b_enc, 3)
    directory = write(
        weights, architecture=None, metadata=None, apply_b_dec_to_input=None, model_name="gpt2",
        hook_point="blocks.3.hook_resid_pre", hook_point_layer=3, activation_fn_str="topk",
        activation_fn_kwargs={"k": 3}, normalize_activations=False, expansion_factor=4,
    )  # fmt: skip
    sae = load_sae(directory)
    assert sae.site == {"model": "gpt2", "block": 2, "hook": "blocks.3.hook_resid_pre"}
    agrees(sae, codes, codes @ W_dec + b_dec)


def test_the_factor_of_a_finetuning_is_applied_once(write, weights, tokens, agrees):
    W_enc, b_enc, W_dec, b_dec = double(weights)
    codes = ((tokens - b_dec) @ W_enc + b_enc).clamp(min=0)
    factor = torch.linspace(0.5, 2.0, 14)
    held = weights | {"scaling_factor": factor}
    agrees(load_sae(write(held, finetuning_scaling_factor=True)), codes, (codes * factor.double()) @ W_dec + b_dec)
    with pytest.raises(InfoscopeError, match="does not say finetuning_scaling_factor"):
        load_sae(write(held))
    held["scaling_factor"] = torch.ones(14)
    agrees(load_sae(write(held)), codes, codes @ W_dec + b_dec)


def test_bfloat16(write, weights):
    rounded = {key: value.bfloat16() for key, value in weights.items()}
    sae = load_sae(write(rounded, dtype="bfloat16", apply_b_dec_to_input=False))
    assert torch.equal(sae.W_dec, rounded["W_dec"].float())


def test_other_places_are_named_and_given_no_block(write, weights):
    sae = load_sae(write(weights, metadata={"hook_name": "blocks.9.hook_mlp_out", "model_name": "clip"}))
    assert sae.site == {"model": "clip", "hook": "blocks.9.hook_mlp_out"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "transcoder"}, "is a transcoder: it predicts another place"),
        ({"architecture": "jumprelu_skip_transcoder"}, "is a jumprelu_skip_transcoder"),
        ({"architecture": "temporal"}, "encodes a token with the help of those before it"),
        ({"architecture": "matching_pursuit"}, "encodes by search"),
        ({"architecture": "abstopk"}, "of largest magnitude"),
        ({"architecture": "new"}, "architecture 'new' is not known; known are standard"),
        ({"activation_fn": "tanh-relu"}, "activation function tanh-relu is not known"),
        ({"activation_fn": "topk"}, r"activation function is topk, and cfg\.json names no k; add k there"),
        ({"activation_fn_kwargs": {"postact_fn": "tanh"}}, "activation_fn_kwargs has postact_fn"),
        ({"normalize_activations": "expected_average_only_in"}, "statistics over its training set"),
        ({"normalize_activations": True}, "statistics over its training set"),
        ({"normalize_activations": "covariance_whitening"}, "statistics over its training set"),
        ({"normalize_activations": "batch_norm"}, "'batch_norm' is not known"),
        ({"apply_b_dec_to_input": "yes"}, "apply_b_dec_to_input is 'yes', expected true or false"),
        ({"architecture": "topk"}, r"cfg\.json: k is None"),
        ({"architecture": "topk", "k": 2.5}, r"cfg\.json: k is 2\.5"),
        ({"architecture": "jumprelu"}, "lacks threshold"),
        ({"architecture": "gated"}, "lacks b_gate"),
        ({"architecture": "batchtopk"}, "lacks topk_threshold"),
        ({"d_sae": 15}, "the configuration says d_sae 15"),
        ({"d_in": 7}, "the configuration says d_in 7"),
    ],
)
def test_configurations_that_are_refused(write, weights, config, message):
    with pytest.raises(InfoscopeError, match=message) as error:
        load_sae(write(weights, **config))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"W_dec": None}, "lacks W_dec"),
        ({"W_dec": torch.zeros(6, 14)}, r"W_dec has shape \[6, 14\], expected \[14, 6\]"),
        ({"b_dec": torch.zeros(5)}, r"b_dec has shape \[5\]"),
        ({"b_enc": torch.zeros(1)}, r"b_enc has shape \[1\]"),
        ({"W_enc": torch.full((6, 14), torch.nan)}, "holds NaN or infinity"),
        ({"b_enc": torch.zeros(14, dtype=torch.int32)}, "b_enc holds torch.int32"),
    ],
)
def test_weights_that_are_refused(write, weights, changes, message):
    held = {key: value for key, value in (weights | changes).items() if value is not None}
    with pytest.raises(InfoscopeError, match=message) as error:
        load_sae(write(held))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, 5, 200])
def test_truncated_weights(write, weights, size):
    path = write(weights) / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InfoscopeError, match="cut short or not a safetensors file"):
        load_sae(path.parent)


def test_no_configuration(write, weights):
    directory = write(weights)
    (directory / "cfg.json").unlink()
    with pytest.raises(InfoscopeError, match=r"has no cfg\.json"):
        load_sae(directory)


@pytest.mark.parametrize("rescaled", [True, False])
@pytest.mark.parametrize("architecture", ["standard", "topk", "batchtopk", "gated"])
def test_the_scale_of_a_training_checkpoint(write, weights, gates, architecture, rescaled):
    """What lies in ``activation_scaler.json`` is folded as SAELens folds it when training ends, to the bit."""
    if rescaled and architecture not in ("topk", "batchtopk"):
        return
    factor = 0.3712345678
    held = {key: value.clone() for key, value in weights.items()}
    if architecture == "gated":
        del held["b_enc"]
        held |= gates
    if architecture == "batchtopk":
        held |= {"topk_threshold": torch.tensor(0.4, dtype=torch.float64)}
    config = {"architecture": architecture, "normalize_activations": "expected_average_only_in"}
    if "topk" in architecture:
        config["k"] = 5
    if rescaled:
        config["rescale_acts_by_decoder_norm"] = True
    directory = write(held, **config)
    with pytest.raises(InfoscopeError, match="statistics over its training set"):
        load_sae(directory)
    (directory / "activation_scaler.json").write_text(json.dumps({"scaling_factor": factor, "has_whitening": False}))
    ours = load_sae(directory)

    folded = {key: value.clone() for key, value in held.items()}
    folded["W_enc"] *= factor
    folded["W_dec"] /= factor
    folded["b_dec"] /= factor
    if rescaled and architecture == "batchtopk":
        folded["topk_threshold"] /= factor
    (directory / "activation_scaler.json").write_text(json.dumps({"scaling_factor": None, "has_whitening": False}))
    theirs = load_sae(write(folded, **(config | {"normalize_activations": "none"})))
    for name, tensor in theirs.weights().items():
        assert torch.equal(ours.weights()[name], tensor), name


@pytest.mark.parametrize(
    ("scaler", "kind", "message"),
    [
        ({"scaling_factor": 0.5}, "none", "normalize_activations 'none'; they belong to two checkpoints"),
        ({"scaling_factor": "0.5"}, "expected_average_only_in", "scaling_factor is '0.5', expected a number above 0"),
        ({"scaling_factor": float("nan")}, "expected_average_only_in", "scaling_factor is nan"),
        ({"scaling_factor": 0}, "expected_average_only_in", "scaling_factor is 0, expected"),
        ({"scaling_factor": None}, "expected_average_only_in", "statistics over its training set"),
        ({"scaling_factor": None, "has_whitening": True}, "covariance_whitening", "trained on whitened tokens"),
        ({"scaling_factor": 0.5, "norm_offset": 1.0}, "expected_average_only_in", "norm_offset is 1.0"),
    ],
)
def test_scales_that_are_refused(write, weights, scaler, kind, message):
    directory = write(weights, normalize_activations=kind)
    (directory / "activation_scaler.json").write_text(json.dumps(scaler))
    with pytest.raises(InfoscopeError, match=message):
        load_sae(directory)


def test_the_trainer_s_files_beside_a_checkpoint(write, weights):
    directory = write(weights)
    torch.save({"optimizer": {}}, directory / "trainer_state.pt")
    (directory / "runner_cfg.json").write_text("{}")
    assert load_sae(directory).format == "saelens"


def test_one_head_s_tokens_are_no_block_s(write, weights):
    metadata = {"hook_name": "blocks.9.hook_resid_post", "hook_head_index": 2}
    assert load_sae(write(weights, metadata=metadata)).site == {"hook": "blocks.9.hook_resid_post, head 2"}
