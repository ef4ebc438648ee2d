import numpy as np
import pytest
import torch

from infoscope.dictionaries import sparse
from infoscope.dictionaries.activations import ReLU, TopK
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.sparse import (
    SparseCodes,
    count_active,
    decode_sparse,
    encode_sparse,
    reduce_images,
)
from infoscope.errors import InfoscopeError

WIDTH, FEATURES = 24, 300


def whole_numbers(activation, seed=0):
    """An SAE and tokens on small whole numbers: float32 sums are exact in any order, and ties are many."""
    rng = np.random.default_rng(seed)
    parts = (
        rng.integers(-3, 4, size=shape).astype(np.float32)
        for shape in ((WIDTH, FEATURES), (FEATURES,), (FEATURES, WIDTH), (WIDTH,))
    )
    tokens = torch.from_numpy(rng.integers(-3, 4, size=(1300, WIDTH)).astype(np.float32))
    return SparseAutoencoder(*map(torch.from_numpy, parts), activation), tokens


def random_sae(activation=None, width=WIDTH, features=FEATURES):
    generator = torch.Generator().manual_seed(0)
    return SparseAutoencoder(
        torch.randn(width, features, generator=generator),
        torch.randn(features, generator=generator),
        torch.randn(features, width, generator=generator),
        torch.randn(width, generator=generator),
        activation or TopK(8),
    )


def same(a, b):
    return all(np.array_equal(getattr(a, field), getattr(b, field)) for field in ("start", "feature", "value"))


@pytest.mark.parametrize("activation", [ReLU(), TopK(1), TopK(8), TopK(1000)], ids=str)
def test_equals_the_definition_in_float64(activation):
    sae, tokens = whole_numbers(activation)
    codes = encode_sparse(sae, tokens)
    pre = tokens.double().numpy() @ sae.W_enc.double().numpy() + sae.b_enc.double().numpy()
    expected = np.maximum(pre, 0)
    if isinstance(activation, TopK):
        np.put_along_axis(expected, np.argsort(-pre, axis=1, kind="stable")[:, activation.k :], 0, axis=1)
    np.testing.assert_array_equal(codes.dense(FEATURES), expected)
    np.testing.assert_array_equal(sae.encode(tokens).numpy(), expected)
    for token in range(len(codes)):
        assert (np.diff(codes.feature[codes.start[token] : codes.start[token + 1]]) > 0).all()
    assert (codes.value > 0).all()


@pytest.mark.parametrize("activation", [ReLU(), TopK(8)], ids=str)
def test_path_of_other_devices_gives_the_same(activation):
    sae, tokens = whole_numbers(activation)
    count, feature, value = sparse._positives_on_device(sae, sae.pre_activations(tokens))
    codes = encode_sparse(sae, tokens)
    np.testing.assert_array_equal(count, np.diff(codes.start))
    np.testing.assert_array_equal(feature, codes.feature)
    np.testing.assert_array_equal(value, codes.value)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "features"), [(WIDTH, FEATURES), (384, 4096), (64, 40000)])
def test_a_token_s_codes_do_not_depend_on_the_others(width, features):
    sae = random_sae(TopK(8), width, features)
    tokens = torch.randn(1100, width, generator=torch.Generator().manual_seed(1))
    together = encode_sparse(sae, tokens)
    decoded = decode_sparse(sae, together)
    for first, count in [(0, 1), (7, 1), (1099, 1), (3, 2), (5, 3), (100, 11), (0, 512), (13, 513), (500, 600)]:
        alone = encode_sparse(sae, tokens[first : first + count])
        assert same(alone, together.rows(slice(first, first + count)))
        assert torch.equal(decode_sparse(sae, alone), decoded[first : first + count])


def test_no_tokens():
    codes = encode_sparse(random_sae(), torch.zeros(0, WIDTH))
    assert len(codes) == 0
    assert decode_sparse(random_sae(), codes).shape == (0, WIDTH)
    assert reduce_images(codes, 4, "max", FEATURES).shape == (0, FEATURES)


def test_tokens_without_codes_decode_to_the_bias():
    sae = random_sae()
    codes = SparseCodes(np.zeros(4, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    assert torch.equal(decode_sparse(sae, codes), sae.b_dec.expand(3, -1))


def test_decodes_as_dense():
    sae = random_sae()
    tokens = torch.randn(100, WIDTH, generator=torch.Generator().manual_seed(1))
    codes = encode_sparse(sae, tokens)
    expected = codes.dense(FEATURES).astype(np.float64) @ sae.W_dec.double().numpy() + sae.b_dec.double().numpy()
    np.testing.assert_allclose(decode_sparse(sae, codes).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("how", ["max", "mean", "sum"])
def test_reductions_equal_dense_ones(how):
    sae, tokens = whole_numbers(TopK(5))
    codes = encode_sparse(sae, tokens)
    images = codes.dense(FEATURES).astype(np.float64).reshape(-1, 10, FEATURES)
    expected = {"max": images.max(1), "mean": images.sum(1) / 10, "sum": images.sum(1)}[how]
    np.testing.assert_array_equal(reduce_images(codes, 10, how, FEATURES), expected.astype(np.float32))


def test_sums_are_float64():
    value = np.full(20_000, 0.1, np.float32)
    codes = SparseCodes(np.arange(20_001), np.zeros(20_000, np.int32), value)
    assert reduce_images(codes, 20_000, "sum", 1)[0, 0] == np.float32(value.astype(np.float64).sum())


def test_counts_tokens():
    sae, tokens = whole_numbers(TopK(5))
    codes = encode_sparse(sae, tokens)
    np.testing.assert_array_equal(count_active(codes, FEATURES), (codes.dense(FEATURES) > 0).sum(0))


def test_rows_are_slices():
    codes = encode_sparse(random_sae(), torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(1)))
    for rows in (slice(3, 9), slice(None), slice(15, None), slice(4, 4), slice(9, 3), slice(-2, None)):
        np.testing.assert_array_equal(codes.rows(rows).dense(FEATURES), codes.dense(FEATURES)[rows])
    with pytest.raises(ValueError, match="steps of 2"):
        codes.rows(slice(0, 10, 2))


def test_images_that_are_not_whole():
    codes = encode_sparse(random_sae(), torch.zeros(5, WIDTH))
    with pytest.raises(ValueError, match="5 tokens are not whole images of 4 patches"):
        reduce_images(codes, 4, "max", FEATURES)


def test_tokens_that_are_refused():
    with pytest.raises(InfoscopeError, match="takes tokens of width 24, not 25"):
        encode_sparse(random_sae(), torch.zeros(3, 25))
    with pytest.raises(InfoscopeError, match="tokens hold NaN or infinity"):
        encode_sparse(random_sae(), torch.full((3, WIDTH), float("nan")))
