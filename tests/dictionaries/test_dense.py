"""Dense codes chunk by chunk, against the SAE's own dense codes and against the sparse list."""

import numpy as np
import pytest
import torch

from infoscope.dictionaries import dense
from infoscope.dictionaries import sparse as chunks
from infoscope.dictionaries.activations import ReLU, TopK
from infoscope.dictionaries.dense import encode_features, reconstruct, reduce_dense
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.sparse import count_active, encode_sparse, reduce_images
from infoscope.errors import InfoscopeError

WIDTH, FEATURES, PATCHES, IMAGES = 24, 1500, 9, 23


def random_sae(activation):
    generator = torch.Generator().manual_seed(0)
    W_enc, W_dec = torch.randn(WIDTH, FEATURES, generator=generator), torch.randn(FEATURES, WIDTH, generator=generator)
    b_enc, b_dec = torch.randn(FEATURES, generator=generator) - 3, torch.randn(WIDTH, generator=generator)
    return SparseAutoencoder(W_enc, b_enc, W_dec, b_dec, activation)


@pytest.fixture(scope="module")
def tokens():
    return torch.randn(IMAGES * PATCHES, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("how", ["max", "mean", "sum"])
@pytest.mark.parametrize("activation", [ReLU(), TopK(7)], ids=str)
@pytest.mark.parametrize("memory", [2**17, 2**19, 2**25])
def test_reduction_is_that_of_the_sparse_list(tokens, how, activation, memory, monkeypatch):
    monkeypatch.setattr(chunks, "CPU_BYTES", memory)
    sae = random_sae(activation)
    score, active = reduce_dense(sae, tokens, PATCHES, how)
    codes = encode_sparse(sae, tokens, PATCHES)
    assert np.array_equal(score, reduce_images(codes, PATCHES, how, FEATURES))
    assert np.array_equal(active, count_active(codes, FEATURES))
    device_score, device_active = dense._reduce_on_device(sae, tokens, PATCHES, how)
    np.testing.assert_allclose(device_score, score, atol=1e-5)
    assert np.abs(device_active - active).sum() <= 1


def test_reduction_does_not_depend_on_the_images_it_is_asked_with(tokens):
    sae = random_sae(ReLU())
    score, _ = reduce_dense(sae, tokens, PATCHES, "max")
    for first, count in ((0, 1), (3, 5), (20, 3)):
        some = tokens[first * PATCHES : (first + count) * PATCHES]
        assert np.array_equal(reduce_dense(sae, some, PATCHES, "max")[0], score[first : first + count])


@pytest.mark.parametrize("activation", [ReLU(), TopK(7)], ids=str)
def test_some_features_alone(tokens, activation):
    sae = random_sae(activation)
    whole = sae.encode(tokens).numpy()
    wanted = np.random.default_rng(0).permutation(FEATURES)[:700]
    codes = encode_features(sae, tokens, wanted)
    np.testing.assert_allclose(codes, whole[:, wanted], atol=1e-5)
    for some in (wanted[:1], wanted[300:], wanted[::-1]):
        place = [wanted.tolist().index(j) for j in some]
        assert np.array_equal(encode_features(sae, tokens, some), codes[:, place])
    assert encode_features(sae, tokens, wanted[:0]).shape == (len(tokens), 0)


@pytest.mark.parametrize("activation", [ReLU(), TopK(7)], ids=str)
def test_reconstruction(tokens, activation):
    sae = random_sae(activation)
    torch.testing.assert_close(reconstruct(sae, tokens), sae(tokens), atol=1e-3, rtol=1e-4)
    assert reconstruct(sae, tokens[:0]).shape == (0, WIDTH)


def test_which_features_topk_keeps_depends_on_all():
    with pytest.raises(ValueError, match="depend on all features of a token"):
        TopK(3).at(torch.arange(2))


@pytest.mark.parametrize("call", [lambda s, t: reduce_dense(s, t, 1, "max"), reconstruct], ids=["reduce", "decode"])
def test_tokens_of_another_width_or_not_finite(call):
    with pytest.raises(InfoscopeError, match=f"takes tokens of width {WIDTH}, not 3"):
        call(random_sae(ReLU()), torch.zeros(2, 3))
    with pytest.raises(InfoscopeError, match="NaN or infinity"):
        call(random_sae(ReLU()), torch.full((2, WIDTH), float("nan")))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("activation", [ReLU(), TopK(7)], ids=str)
def test_on_a_gpu(tokens, activation):
    sae = random_sae(activation)
    score, active = reduce_dense(sae, tokens, PATCHES, "max")
    there, active_there = reduce_dense(sae.to("cuda"), tokens.cuda(), PATCHES, "max")
    np.testing.assert_allclose(there, score, atol=1e-4)
    assert np.abs(active_there - active).sum() <= 3
