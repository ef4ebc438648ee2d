import numpy as np
import pytest
import torch

from infoscope.dictionaries.activations import ReLU, TopK
from infoscope.dictionaries.dense import reconstruct
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder, TokenNorm
from infoscope.dictionaries.sparse import encode_sparse
from infoscope.errors import InfoscopeError
from infoscope.measurement.encode import encode_views

NORMS = [TokenNorm("layer_norm", 1e-1), TokenNorm("unit_norm")]


def sae_with(norm, activation=None):
    generator = torch.Generator().manual_seed(0)
    weights = (torch.randn(shape, generator=generator) for shape in ((8, 20), (20,), (20, 8), (8,)))
    return SparseAutoencoder(*weights, activation or TopK(4), token_norm=norm)


def defined(norm, tokens):
    """The tokens the encoder takes, in float64, and how to go back."""
    exact = tokens.numpy().astype(np.float64)
    if norm.kind == "layer_norm":
        shift, scale, eps = exact.mean(1, keepdims=True), exact.std(1, ddof=1, keepdims=True), norm.eps
    else:
        shift, scale, eps = 0.0, np.sqrt((exact**2).sum(1, keepdims=True) / exact.shape[1]), 0.0
    return (exact - shift) / (scale + eps), lambda made: made * scale + shift


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.kind)
@pytest.mark.parametrize("activation", [TopK(4), ReLU()], ids=str)
def test_applied_before_encoding_and_undone_after_decoding(norm, activation):
    sae = sae_with(norm, activation)
    tokens = 5 * torch.randn(6, 8, generator=torch.Generator().manual_seed(1)) + 3
    inner, undo = defined(norm, tokens)
    bare = SparseAutoencoder(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, activation)
    codes = bare.encode(torch.from_numpy(inner).float())
    expected = undo(bare.decode(codes).numpy().astype(np.float64))
    np.testing.assert_allclose(sae.encode(tokens).numpy(), codes.numpy(), atol=1e-5)
    np.testing.assert_allclose(encode_sparse(sae, tokens).dense(20), codes.numpy(), atol=1e-5)
    views = encode_views(sae, tokens, 3)
    for made in (sae(tokens), sae.decode(codes, tokens), reconstruct(sae, tokens), views.reconstruct(slice(0, 6))):
        np.testing.assert_allclose(made.numpy(), expected, atol=1e-4)


def test_codes_alone_do_not_tell_the_scale():
    with pytest.raises(InfoscopeError, match="scales each token by its own layer_norm: give decode the tokens too"):
        sae_with(NORMS[0]).decode(torch.zeros(1, 20))


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.kind)
def test_saved_and_read_again(tmp_path, norm):
    save_sae(sae_with(norm), tmp_path / "sae")
    assert load_sae(tmp_path / "sae").token_norm == norm


@pytest.mark.parametrize("value", [{}, {"kind": "batch_norm", "eps": 0.1}, {"kind": "layer_norm", "eps": None}])
def test_an_unknown_norm_is_refused(value):
    with pytest.raises(InfoscopeError, match="unknown token norm"):
        TokenNorm.from_json(value)
