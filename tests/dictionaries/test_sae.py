import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import load

from infoscope.dictionaries.activations import ReLU, TopK
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError


def weights(width=6, features=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "W_enc": torch.randn(width, features, generator=generator),
        "b_enc": torch.randn(features, generator=generator),
        "W_dec": torch.randn(features, width, generator=generator),
        "b_dec": torch.randn(width, generator=generator),
    }


def test_encode_and_decode_are_the_formula():
    parts = weights()
    sae = SparseAutoencoder(**parts, activation=ReLU())
    tokens = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
    W_enc, b_enc, W_dec, b_dec = (parts[key].double().numpy() for key in ("W_enc", "b_enc", "W_dec", "b_dec"))
    codes = np.maximum(tokens.double().numpy() @ W_enc + b_enc, 0)
    np.testing.assert_allclose(sae.encode(tokens).numpy(), codes, atol=1e-5)
    np.testing.assert_allclose(sae(tokens).numpy(), codes @ W_dec + b_dec, atol=1e-5)
    assert (sae.width, sae.features) == (6, 10)


def test_nothing_is_subtracted_before_encoding():
    parts = weights()
    sae = SparseAutoencoder(**parts, activation=ReLU())
    other = SparseAutoencoder(**parts | {"b_dec": parts["b_dec"] + 100}, activation=ReLU())
    tokens = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(sae.encode(tokens), other.encode(tokens))
    torch.testing.assert_close(other(tokens), sae(tokens) + 100)


def test_weights_are_fixed_float32_copies_of_what_they_are_given_in():
    parts = {key: weight.to(torch.bfloat16) for key, weight in weights().items()}
    sae = SparseAutoencoder(**parts, activation=TopK(2))
    assert all(not weight.requires_grad and weight.dtype == torch.float32 for weight in sae.parameters())
    assert torch.equal(sae.W_dec, parts["W_dec"].float())


def test_hash_is_of_the_file_that_would_be_written(tmp_path):
    sae = SparseAutoencoder(**weights(), activation=TopK(2))
    save_sae(sae, tmp_path / "sae")
    data = (tmp_path / "sae" / "sae.safetensors").read_bytes()
    assert sae.sha256 == hashlib.sha256(data).hexdigest()
    assert set(load(data)) == {"W_enc", "b_enc", "W_dec", "b_dec"}
    assert SparseAutoencoder(**weights(seed=1), activation=TopK(2)).sha256 != sae.sha256


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"W_enc": torch.zeros(6)}, r"SAE in memory: W_enc has shape \[6\], expected \[width, features\]"),
        ({"W_enc": torch.zeros(0, 10)}, r"W_enc has shape \[0, 10\]"),
        ({"b_enc": torch.zeros(6)}, r"b_enc has shape \[6\], expected \[10\]"),
        ({"W_dec": torch.zeros(6, 10)}, r"W_dec has shape \[6, 10\], expected \[10, 6\] to go with W_enc \[6, 10\]"),
        ({"b_dec": torch.zeros(10)}, r"b_dec has shape \[10\], expected \[6\]"),
        ({"b_dec": torch.tensor([0, 0, 0, float("nan"), 0, 0])}, "b_dec holds NaN or infinity"),
        ({"W_dec": torch.full((10, 6), float("inf"))}, "W_dec holds NaN or infinity"),
        ({"b_dec": torch.zeros(6, dtype=torch.int8)}, "b_dec holds torch.int8"),
    ],
)
def test_weights_that_are_refused(changed, message):
    with pytest.raises(InfoscopeError, match=message):
        SparseAutoencoder(**weights() | changed, activation=ReLU())
