"""What some codes contribute, against dense algebra in float64."""

import numpy as np
import pytest
import torch

from infoscope.dictionaries.activations import Gated, JumpReLU, ReLU, TopK
from infoscope.dictionaries.parts import Codes, _decode_on_device, decode_part, encode_parts
from infoscope.dictionaries.sae import SparseAutoencoder, TokenNorm

WIDTH, FEATURES, TOKENS = 12, 40, 50
ACTIVATIONS = {
    "relu": ReLU(),
    "topk": TopK(5),
    "signed topk": TopK(30, relu=False),
    "jumprelu": JumpReLU(torch.full((FEATURES,), 0.5)),
    "gated": Gated(torch.full((FEATURES,), 1.5), torch.full((FEATURES,), 0.2)),
}


def make_sae(activation, norm=None):
    generator = torch.Generator().manual_seed(0)
    W_enc, W_dec = (torch.randn(shape, generator=generator) for shape in ((WIDTH, FEATURES), (FEATURES, WIDTH)))
    b_enc, b_dec = torch.randn(FEATURES, generator=generator), torch.randn(WIDTH, generator=generator)
    return SparseAutoencoder(W_enc, b_enc, W_dec, b_dec, activation, token_norm=norm)


@pytest.fixture
def tokens():
    return 3 * torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(1)) + 1


def dense(codes: Codes) -> np.ndarray:
    found = np.zeros((len(codes), FEATURES))
    row = np.repeat(np.arange(len(codes)), np.diff(codes.start.numpy()))
    found[row, codes.feature.numpy()] = codes.value.numpy()
    return found


@pytest.mark.parametrize("name", list(ACTIVATIONS))
@pytest.mark.parametrize("norm", [None, TokenNorm("layer_norm"), TokenNorm("unit_norm")])
def test_codes_and_their_parts(name, norm, tokens):
    sae = make_sae(ACTIVATIONS[name], norm)
    codes = encode_parts(sae, tokens, multiple=10)
    expected = sae.encode(tokens).numpy()
    np.testing.assert_allclose(dense(codes), expected, rtol=1e-4, atol=1e-4)
    assert (codes.value != 0).all()
    assert bool((codes.value < 0).any()) == (name == "signed topk")
    member = torch.arange(FEATURES) % 3 == 0
    part = dense(codes)[:, ::3] @ sae.W_dec.double().numpy()[::3]
    assert abs(part).max() > 1
    for decode in (decode_part, _decode_on_device):  # a GPU's way is the same on a CPU
        np.testing.assert_allclose(decode(sae, codes, member).numpy(), part, rtol=1e-5, atol=1e-5)


def test_no_codes_contribute_nothing(tokens):
    silent = make_sae(JumpReLU(torch.full((FEATURES,), 1e9)))
    for codes in (encode_parts(silent, tokens), encode_parts(silent, tokens[:0])):
        everything = torch.ones(FEATURES, dtype=torch.bool)
        for decode in (decode_part, _decode_on_device):
            found = decode(silent, codes, everything)
            assert found.shape == (len(codes), WIDTH)
            assert not found.any()


@pytest.mark.parametrize("name", ["topk", "signed topk"])
def test_a_token_does_not_depend_on_the_others(name, tokens):
    sae, member = make_sae(ACTIVATIONS[name]), torch.arange(FEATURES) < 25
    together = decode_part(sae, encode_parts(sae, tokens, multiple=5), member)
    some = decode_part(sae, encode_parts(sae, tokens[20:30], multiple=5), member)
    assert torch.equal(together[20:30], some)
