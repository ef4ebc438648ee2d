import numpy as np
import pytest
import torch

from infoscope.dictionaries.activations import ReLU, TopK
from infoscope.errors import InfoscopeError
from infoscope.training.autoencoder import Normalisation
from small import new_autoencoder


def some_tokens(offset, count=20_000, width=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, width, generator=generator) * torch.linspace(0.5, 4, width) + offset


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_normalised_tokens_are_centred_with_norm_of_the_width(offset):
    tokens = some_tokens(offset)
    normalisation = Normalisation.estimate(tokens)
    z = normalisation(tokens).double().numpy()
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    assert (z**2).sum(1).mean() == pytest.approx(16, rel=1e-5)
    x = tokens.double().numpy()
    np.testing.assert_allclose(normalisation.mean, x.mean(0), rtol=1e-9)
    assert normalisation.mean_over_std == pytest.approx(np.linalg.norm(x.mean(0)) / np.sqrt(x.var(0).sum()), rel=1e-9)


@pytest.mark.parametrize("activation", [TopK(5), ReLU()], ids=str)
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_folding_is_exact(activation, offset):
    tokens = some_tokens(offset, count=300)
    normalisation = Normalisation.estimate(tokens)
    autoencoder = new_autoencoder(16, 64, k=5)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        autoencoder.encoder += 0.2 * torch.randn(64, 16, generator=generator)
        autoencoder.encoder_bias += 0.5 * torch.randn(64, generator=generator)
        autoencoder.decoder_bias += torch.randn(16, generator=generator)
    encoder, bias, decoder, decoder_bias = (
        weight.detach().double()
        for weight in (autoencoder.encoder, autoencoder.encoder_bias, autoencoder.decoder, autoencoder.decoder_bias)
    )
    sae = normalisation.fold(
        autoencoder.encoder, autoencoder.encoder_bias, autoencoder.decoder, autoencoder.decoder_bias, activation
    )
    # What the trainer's own weights make of normalised tokens, in float64 and taken back to raw tokens.
    z = normalisation.scale * (tokens.double() - torch.from_numpy(normalisation.mean))
    codes = activation(z @ encoder.T + bias)
    raw = torch.from_numpy(normalisation.mean) + (codes @ decoder + decoder_bias) / normalisation.scale
    # float32 resolves an offset of 30 to 2e-6 of each product of the encoder.
    torch.testing.assert_close(sae.encode(tokens).double() * normalisation.scale, codes, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(sae(tokens).double(), raw, atol=2e-4, rtol=1e-5)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(64))


def test_constant_tokens_are_refused():
    with pytest.raises(InfoscopeError, match="all tokens of the sample are the same"):
        Normalisation.estimate(torch.ones(10, 3))
