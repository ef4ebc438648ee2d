import json

import pytest
import torch

from infoscope.dictionaries.activations import JumpReLU, TopK
from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError


@pytest.fixture
def write(tmp_path):
    def write(tensors, kind=None, **trainer):
        folder = tmp_path / "trainer_0"
        folder.mkdir(exist_ok=True)
        torch.save(tensors, folder / "ae.pt")
        if kind is not None:
            trainer = {
                "dict_class": kind,
                "lm_name": "clip",
                "layer": 10,
                "submodule_name": "resid_post_layer_10",
            } | trainer
            (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
        return folder

    return write  # fmt: skip


@pytest.fixture
def linear(weights):
    """The weights as torch's Linear layers hold them."""
    return {
        "encoder.weight": weights["W_enc"].T.contiguous(),
        "encoder.bias": weights["b_enc"],
        "decoder.weight": weights["W_dec"].T.contiguous(),
    }


def double(weights):
    return [weights[key].double() for key in ("W_enc", "b_enc", "W_dec", "b_dec")]


def test_autoencoder(write, linear, weights, tokens, agrees):
    """Its decoder is normalised when it is loaded: codes are in units of reconstruction."""
    W_enc, b_enc, W_dec, b_dec = double(weights)
    codes = ((tokens - b_dec) @ W_enc + b_enc).clamp(min=0)
    sae = load_sae(write(linear | {"bias": weights["b_dec"]}))
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(14))
    assert (sae.format, sae.site) == ("dictionary_learning", None)
    agrees(sae, codes * W_dec.norm(dim=1), codes @ W_dec + b_dec)


def test_autoencoder_of_april(write, linear, weights, tokens, agrees):
    """Not centred, and not normalised when it is loaded."""
    W_enc, b_enc, W_dec, b_dec = double(weights)
    codes = (tokens @ W_enc + b_enc).clamp(min=0)
    sae = load_sae(write(linear | {"decoder.bias": weights["b_dec"]}, "AutoEncoderNew"))
    agrees(sae, codes, codes @ W_dec + b_dec)


def test_gated(write, linear, weights, gates, tokens, agrees):
    W_enc, _, W_dec, b_dec = double(weights)
    inside = (tokens - b_dec) @ W_enc
    opened = inside + gates["b_gate"].double() > 0
    codes = opened * (gates["r_mag"].double().exp() * inside + gates["b_mag"].double()).clamp(min=0)
    del linear["encoder.bias"]
    held = {"decoder_bias": weights["b_dec"], "gate_bias": gates["b_gate"], "mag_bias": gates["b_mag"]}
    agrees(load_sae(write(linear | held | {"r_mag": gates["r_mag"]})), codes, codes @ W_dec + b_dec)


@pytest.mark.parametrize("buffers", [True, False])
def test_topk(write, linear, weights, tokens, agrees, top, buffers):
    W_enc, b_enc, W_dec, b_dec = double(weights)
    codes = top((tokens - b_dec) @ W_enc + b_enc, 9)
    held = {"b_dec": weights["b_dec"]}
    if buffers:
        held |= {"k": torch.tensor(9, dtype=torch.int), "threshold": torch.tensor(0.8)}
    sae = load_sae(write(linear | held, "AutoEncoderTopK", k=9))
    assert sae.activation == TopK(9)
    assert sae.site == {"model": "clip", "block": 10, "hook": "resid_post_layer_10"}
    agrees(sae, codes, codes @ W_dec + b_dec)


def test_batchtopk_encodes_by_its_threshold(write, linear, weights, tokens, agrees):
    """From the same tensors as TopK's."""
    W_enc, b_enc, W_dec, b_dec = double(weights)
    pre = ((tokens - b_dec) @ W_enc + b_enc).clamp(min=0)
    codes = pre * (pre > 0.5)
    held = linear | {"b_dec": weights["b_dec"], "k": torch.tensor(9), "threshold": torch.tensor(0.5)}
    sae = load_sae(write(held, "BatchTopKSAE", k=9))
    assert isinstance(sae.activation, JumpReLU)
    agrees(sae, codes, codes @ W_dec + b_dec)
    (write(held) / "config.json").unlink()
    with pytest.raises(InfoscopeError, match=r"have the same tensors .* put its config\.json beside it"):
        load_sae(write(held))


def test_matryoshka(write, weights, tokens, agrees):
    W_enc, b_enc, W_dec, b_dec = double(weights)
    pre = ((tokens - b_dec) @ W_enc + b_enc).clamp(min=0)
    codes = pre * (pre > 0.5)
    held = {"k": torch.tensor(4), "threshold": torch.tensor(0.5), "group_sizes": torch.tensor([4, 10])}
    agrees(load_sae(write(weights | held)), codes, codes @ W_dec + b_dec)


def test_jumprelu_is_not_centred(write, weights, thresholds, tokens, agrees):
    W_enc, b_enc, W_dec, b_dec = double(weights)
    pre = tokens @ W_enc + b_enc
    codes = torch.where(pre > thresholds.double(), pre, 0.0)
    agrees(load_sae(write(weights | {"threshold": thresholds})), codes, codes @ W_dec + b_dec)


def test_a_run_s_folder(write, linear, weights, tmp_path):
    held = linear | {"bias": weights["b_dec"]}
    folder = write(held, "AutoEncoder")
    (folder / "checkpoints").mkdir()
    torch.save(held, folder / "checkpoints" / "ae_0.pt")
    assert load_sae(tmp_path).features == 14
    (tmp_path / "trainer_1").mkdir()
    torch.save(held, tmp_path / "trainer_1" / "ae.pt")
    with pytest.raises(InfoscopeError, match="holds several SAEs: trainer_0, trainer_1; name one, as"):
        load_sae(tmp_path)


@pytest.mark.parametrize(
    ("trainer", "site"),
    [
        ({"submodule_name": "mlp_out_layer_10"}, {"model": "clip", "hook": "mlp_out_layer_10"}),
        ({"submodule_name": None}, {"model": "clip", "hook": "layer 10"}),
    ],
)
def test_sites(write, linear, weights, trainer, site):
    assert load_sae(write(linear | {"bias": weights["b_dec"]}, "AutoEncoder", **trainer)).site == site


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("IdentityDict", {}, "dict_class 'IdentityDict' is not known"),
        ("AutoEncoderTopK", {"k": torch.tensor(3)}, "k 9, but ae.pt 3"),
        ("BatchTopKSAE", {"threshold": None}, "lacks threshold"),
        ("BatchTopKSAE", {"encoder.bias": None}, "lacks encoder.bias"),
        ("BatchTopKSAE", {"threshold": torch.tensor(torch.nan)}, "threshold holds NaN"),
        ("BatchTopKSAE", {"decoder.weight": torch.zeros(14, 6)}, r"W_dec has shape \[6, 14\]"),
        ("BatchTopKSAE", {"b_dec": torch.full((6,), torch.inf)}, "NaN or infinity"),
    ],
)
def test_what_is_refused(write, linear, weights, kind, changes, message):
    held = linear | {"b_dec": weights["b_dec"], "k": torch.tensor(9), "threshold": torch.tensor(0.5)} | changes
    with pytest.raises(InfoscopeError, match=message) as error:
        load_sae(write({key: value for key, value in held.items() if value is not None}, kind, k=9))
    assert "\n" not in str(error.value)
