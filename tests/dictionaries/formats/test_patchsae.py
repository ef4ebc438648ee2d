import pytest
import torch

from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError

CONFIG = {
    "model_name": "openai/clip-vit-base-patch16", "module_name": "resid", "block_layer": -2, "class_token": False,
    "d_in": 6, "expansion_factor": 64, "d_sae": 14, "gated_sae": False, "dtype": torch.float32,
}  # fmt: skip


@pytest.fixture
def write(tmp_path, weights, foreign):
    def write(key="cfg", tensors=None, **changes):
        config = foreign("ViTSAERunnerConfig", **(CONFIG | changes))
        foreign.save({key: config, "state_dict": weights | (tensors or {})}, tmp_path / "out.pt")
        return tmp_path / "out.pt"

    return write


@pytest.mark.parametrize("key", ["cfg", "config"])
def test_codes_and_reconstructions(write, weights, tokens, agrees, key):
    """Centred, and never normalised, unlike the project it shares its layout with."""
    W_enc, b_enc, W_dec, b_dec = (weights[name].double() for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
    codes = ((tokens - b_dec) @ W_enc + b_enc).clamp(min=0)
    sae = load_sae(write(key))
    assert (sae.format, sae.token_norm) == ("patchsae", None)
    agrees(sae, codes, codes @ W_dec + b_dec)


@pytest.mark.parametrize(
    ("changes", "site"),
    [
        ({}, {"model": CONFIG["model_name"], "block": 10, "hook": "-2_resid", "tokens": "all"}),
        (
            {"class_token": True, "block_layer": 3},
            {"model": CONFIG["model_name"], "block": 3, "hook": "3_resid", "tokens": "cls"},
        ),
        ({"model_name": "someone/model"}, {"model": "someone/model", "hook": "-2_resid", "tokens": "all"}),
        ({"module_name": "mlp"}, {"model": CONFIG["model_name"], "hook": "-2_mlp", "tokens": "all"}),
    ],
)
def test_sites(write, changes, site):
    assert load_sae(write(**changes)).site == site


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gated_sae": True}, "is gated"),
        ({"d_in": 768}, "says d_in 768"),
        ({"tensors": {"W_dec": torch.zeros(6, 14)}}, r"W_dec has shape \[6, 14\]"),
        ({"tensors": {"b_enc": torch.full((14,), torch.nan)}}, "NaN or infinity"),
        ({"tensors": {"W_enc": [1, 2]}}, "lacks W_enc"),
    ],
)
def test_what_is_refused(write, changes, message):
    with pytest.raises(InfoscopeError, match=message):
        load_sae(write(**changes))
