import pytest
import torch

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError


@pytest.fixture
def write(tmp_path, weights):
    def write(tokens_seen=1200, factor=1.0, tensors=None, **changes):
        state = {"pre_b": weights["b_dec"], "enc": weights["W_enc"], "dec": factor * weights["W_dec"]}
        content = {"model_state_dict": state | (tensors or {}), "k": 5, "n_features": 14, "d_in": 6} | changes
        folder = tmp_path / "11_resid"
        folder.mkdir(exist_ok=True)
        torch.save({key: value for key, value in content.items() if value is not None}, folder / f"{tokens_seen}.pt")
        return folder / f"{tokens_seen}.pt"

    return write


def formula(weights, tokens, top, k=5):
    W_enc, W_dec, b_dec = (weights[key].double() for key in ("W_enc", "W_dec", "b_dec"))
    codes = top((tokens - b_dec) @ W_enc, k, relu=False)
    return codes, codes @ W_dec + b_dec


@pytest.mark.parametrize("k", [5, 12])
def test_codes_and_reconstructions(write, weights, tokens, agrees, top, k):
    """Without an encoder bias, and with the negative codes that are among the k."""
    codes, reconstruction = formula(weights, tokens, top, k)
    assert k == 5 or (codes < 0).any()
    sae = load_sae(write(k=k))
    assert (sae.format, sae.activation) == ("clip_scope", TopK(k, relu=False))
    assert sae.site == {"model": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", "block": 11, "hook": "11_resid"}
    agrees(sae, codes, reconstruction)


def test_the_last_checkpoint(write, weights, tokens, agrees, top):
    write(900, factor=0.5)
    agrees(load_sae(write(1200).parent), *formula(weights, tokens, top))


def test_k_of_a_file_that_does_not_say(write):
    path = write(k=None)
    with pytest.raises(InfoscopeError, match=r"does not say its k; give it"):
        load_sae(path)
    assert load_sae(path, k=7).activation.k == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_features": 15}, "says n_features 15"),
        ({"tensors": {"enc": torch.zeros(2, 6, 7)}}, "routes tokens to experts"),
        ({"tensors": {"dec": torch.zeros(6, 14)}}, r"W_dec has shape \[6, 14\]"),
        ({"tensors": {"pre_b": torch.full((6,), torch.nan)}}, "NaN or infinity"),
    ],
)
def test_what_is_refused(write, changes, message):
    with pytest.raises(InfoscopeError, match=message):
        load_sae(write(**changes))
