import numpy as np
import pytest
import torch

from infoscope.training.autoencoder import auxk_loss, reconstruction_loss
from small import new_autoencoder


@pytest.fixture
def setting():
    generator = torch.Generator().manual_seed(0)
    autoencoder = new_autoencoder(8, 30, k=4)
    with torch.no_grad():
        autoencoder.decoder_bias += 3 * torch.randn(8, generator=generator)
        autoencoder.encoder_bias += torch.randn(30, generator=generator)
        autoencoder.encoder += 0.3 * torch.randn(30, 8, generator=generator)
    tokens = torch.randn(40, 8, generator=generator)
    dead = torch.zeros(30, dtype=torch.bool)
    dead[[2, 3, 11, 17, 29]] = True
    return autoencoder, tokens, dead


def by_hand(autoencoder, tokens, dead, k):
    """AuxK in float64: the residual of the whole reconstruction, explained by dead features without any bias."""
    encoder, bias, decoder, decoder_bias = (
        weight.detach().double().numpy()
        for weight in (autoencoder.encoder, autoencoder.encoder_bias, autoencoder.decoder, autoencoder.decoder_bias)
    )
    x = tokens.double().numpy()

    def codes(pre, k):
        kept = np.zeros_like(pre)
        order = np.argsort(-pre, axis=1, kind="stable")[:, :k]
        np.put_along_axis(kept, order, np.maximum(np.take_along_axis(pre, order, 1), 0), 1)
        return kept

    residual = x - codes(x @ encoder.T + bias, 4) @ decoder - decoder_bias
    index = np.nonzero(dead.numpy())[0]
    explained = codes(x @ encoder[index].T + bias[index], k) @ decoder[index]
    return ((residual - explained) ** 2).sum() / (residual**2).sum()


@pytest.mark.parametrize("k", [1, 2, 5, 100])
def test_auxk_is_the_formula(setting, k):
    autoencoder, tokens, dead = setting
    loss = auxk_loss(autoencoder, tokens, autoencoder(tokens, 1.0).reconstruction, dead, k)
    assert loss.item() == pytest.approx(by_hand(autoencoder, tokens, dead, k), rel=1e-4)


def test_decoder_bias_is_not_added_again(setting):
    autoencoder, tokens, dead = setting
    with torch.no_grad():
        autoencoder.encoder_bias[dead] = -1e6
    # With nothing to explain the residual by, all of it is left.
    assert auxk_loss(autoencoder, tokens, autoencoder(tokens, 1.0).reconstruction, dead, 2).item() == pytest.approx(1)


def test_auxk_moves_dead_features_only(setting):
    autoencoder, tokens, dead = setting
    output = autoencoder(tokens, 1.0)
    output.reconstruction.retain_grad()
    auxk_loss(autoencoder, tokens, output.reconstruction, dead, 2).backward()
    assert output.reconstruction.grad is None
    assert autoencoder.decoder_bias.grad is None
    for weight in (autoencoder.encoder, autoencoder.encoder_bias, autoencoder.decoder):
        assert not weight.grad[~dead].any()
        assert weight.grad[dead].any()


def test_auxk_of_a_perfect_reconstruction(setting):
    autoencoder, tokens, dead = setting
    with torch.no_grad():
        autoencoder.encoder_bias[dead] = -1e6
    assert auxk_loss(autoencoder, tokens, tokens.clone(), dead, 2).item() == 0


def test_reconstruction_loss_is_the_fvu_of_normalised_tokens():
    tokens = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert reconstruction_loss(tokens, torch.zeros(2, 2)).item() == 1
    assert reconstruction_loss(tokens, tokens + 0.5).item() == 0.25
