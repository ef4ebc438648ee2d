"""Codes by way of a product in bfloat16 are those of the whole product."""

import numpy as np
import pytest
import torch

from infoscope.training.sparse_step import Candidates, PreActivations, keep_topk


def parts(count=300, width=24, features=500, seed=0, bias=0.0):
    generator = torch.Generator().manual_seed(seed)
    return (
        3 * torch.randn(count, width, generator=generator),
        torch.randn(features, width, generator=generator),
        torch.randn(features, generator=generator) + bias,
    )


def defined(tokens, encoder, encoder_bias, k):
    """In float64: the k largest, then what is above 0."""
    pre = tokens.double() @ encoder.double().T + encoder_bias.double()
    least = pre.topk(k).values[:, -1:]
    return torch.where(pre >= least, pre, 0.0).clamp_min(0).numpy()


def dense(entries, shape):
    start, feature, value = entries
    codes = np.zeros(shape)
    rows = np.repeat(np.arange(shape[0]), np.diff(start))
    assert (np.diff(feature)[np.diff(rows) == 0] > 0).all()  # ascending within a token
    codes[rows, feature] = value
    return codes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("features", "k", "bias"),
    # Blocks that are full and not, all features, biases that leave few positive codes, or none, and large ones.
    [(500, 8, 0.0), (512, 32, 0.0), (17, 17, 0.0), (500, 60, -20.0), (500, 8, -1000.0), (500, 8, 1000.0), (3, 1, 0.0)],
)
def test_codes_are_those_of_the_whole_product(features, k, bias):
    tokens, encoder, encoder_bias = parts(features=features, bias=bias)
    found = keep_topk(k, rough=True)(PreActivations(tokens, encoder, encoder_bias))
    expected = defined(tokens, encoder, encoder_bias, k)
    np.testing.assert_allclose(dense(found, expected.shape), expected, atol=2e-6 * (20 + abs(bias)))


def test_features_that_bfloat16_cannot_tell_apart():
    """Only float32 has the order of 40 features whose rows differ in the 13th bit."""
    tokens, encoder, encoder_bias = parts(features=400)
    encoder[:40] = 4 * encoder[:1] * (1 + torch.arange(40)[:, None] * 2.0**-13)
    encoder_bias[:40] = 0
    found = keep_topk(5, rough=True)(PreActivations(tokens, encoder, encoder_bias))
    expected = defined(tokens, encoder, encoder_bias, 5)
    assert (expected[:, :40] > 0).any(axis=1).mean() > 0.2
    np.testing.assert_allclose(dense(found, expected.shape), expected, atol=1e-4)


def test_it_says_where_the_bound_decides_nothing():
    tokens, encoder, encoder_bias = parts()
    candidates = Candidates(encoder, encoder_bias)
    assert candidates.select(tokens, 8) is not None
    # A token of zeros has the biases for codes, and not 400 of them are above 0.
    tokens[7] = 0
    assert candidates.select(tokens, 400) is None
    tokens[7] = torch.nan
    assert candidates.select(tokens, 8) is None


def test_the_bound_holds_for_every_entry():
    tokens, encoder, encoder_bias = parts(count=50, features=2000, seed=3)
    # A bound that is too small would lose one of the k, and keep a smaller one in its place.
    for k in (1, 2, 100, 700):
        found = keep_topk(k, rough=True)(PreActivations(tokens, encoder, encoder_bias))
        expected = defined(tokens, encoder, encoder_bias, k)
        assert (dense(found, expected.shape) > 0).sum() == (expected > 0).sum()
