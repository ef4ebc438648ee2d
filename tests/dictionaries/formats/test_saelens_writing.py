import json

import pytest
import torch
from safetensors.torch import load_file

from infoscope.dictionaries.activations import Gated, JumpReLU, ReLU, TopK
from infoscope.dictionaries.formats.saelens import save_saelens
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder, TokenNorm
from infoscope.errors import InfoscopeError

SITE = {"model": "openai/clip-vit-base-patch16", "block": 10}
slopes = torch.linspace(0.5, 2.0, 14)
ACTIVATIONS = [ReLU(), TopK(5), JumpReLU(torch.linspace(-0.5, 2.0, 14)), Gated(slopes, -0.5 * slopes)]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("norm", [None, TokenNorm("layer_norm"), TokenNorm("unit_norm", 0.0)], ids=str)
def test_what_is_written_reads_the_same(tmp_path, weights, tokens, activation, norm):
    sae = SparseAutoencoder(**weights, activation=activation, token_norm=norm, site=SITE)
    save_saelens(sae, tmp_path)
    again = load_sae(tmp_path)
    assert again.token_norm == norm
    assert again.site == SITE | {"hook": "blocks.10.hook_resid_post"}
    torch.testing.assert_close(again.encode(tokens.float()), sae.encode(tokens.float()), rtol=0, atol=5e-6)
    torch.testing.assert_close(again(tokens.float()), sae(tokens.float()), rtol=0, atol=5e-5)


def test_saelens_s_own_formula_on_what_is_written(tmp_path, weights, tokens):
    """A threshold below 0 would let negative codes through there."""
    sae = SparseAutoencoder(**weights, activation=JumpReLU(torch.full((14,), -1.0)))
    save_saelens(sae, tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    held = load_file(tmp_path / "sae_weights.safetensors")
    assert (config["architecture"], config["apply_b_dec_to_input"]) == ("jumprelu", False)
    pre = tokens.float() @ held["W_enc"] + held["b_enc"]
    codes = pre.clamp(min=0) * (pre > held["threshold"])
    torch.testing.assert_close(codes, sae.encode(tokens.float()))
    raw = torch.where(pre > held["threshold"], pre, 0.0)
    torch.testing.assert_close(raw, codes)


def test_more_codes_than_features_are_cut_to_those_there_are(tmp_path, weights):
    save_saelens(SparseAutoencoder(**weights, activation=TopK(100)), tmp_path)
    assert load_sae(tmp_path).activation == TopK(14)


@pytest.mark.parametrize(
    ("activation", "norm", "message"),
    [
        (TopK(5, relu=False), None, r"keeps negative codes \(topk\(5\), signed\)"),
        (ReLU(), TokenNorm("layer_norm", 1e-3), "layer norm with eps 0.001"),
    ],
)
def test_what_saelens_cannot_express(tmp_path, weights, activation, norm, message):
    with pytest.raises(InfoscopeError, match=message):
        save_saelens(SparseAutoencoder(**weights, activation=activation, token_norm=norm), tmp_path / "sae")
    assert not (tmp_path / "sae").exists()
