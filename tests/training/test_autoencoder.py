import pytest
import torch

from infoscope.dictionaries.activations import ReLU, TopK
from infoscope.training.autoencoder import TrainingAutoencoder


def test_starts_as_a_transpose_of_unit_rows():
    autoencoder = TrainingAutoencoder(width=16, features=40, activation=TopK(3), seed=5)
    assert torch.equal(autoencoder.encoder, autoencoder.decoder)
    assert autoencoder.encoder.data_ptr() != autoencoder.decoder.data_ptr()
    torch.testing.assert_close(autoencoder.decoder.norm(dim=1), torch.ones(40))
    assert not autoencoder.encoder_bias.any()
    assert not autoencoder.decoder_bias.any()
    other = TrainingAutoencoder(width=16, features=40, activation=TopK(3), seed=6)
    assert not torch.equal(autoencoder.decoder, other.decoder)


@pytest.mark.parametrize("activation", [TopK(3), ReLU()], ids=str)
def test_output_is_the_formula(activation):
    autoencoder = TrainingAutoencoder(width=16, features=40, activation=activation, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        autoencoder.encoder_bias += torch.randn(40, generator=generator)
        autoencoder.decoder_bias += torch.randn(16, generator=generator)
    tokens = torch.randn(50, 16, generator=generator)
    encoder, bias, decoder, decoder_bias = (
        weight.detach().double()
        for weight in (autoencoder.encoder, autoencoder.encoder_bias, autoencoder.decoder, autoencoder.decoder_bias)
    )
    codes = activation(tokens.double() @ encoder.T + bias)
    output = autoencoder(tokens)
    torch.testing.assert_close(output.reconstruction.double(), codes @ decoder + decoder_bias, atol=1e-5, rtol=1e-5)
    assert torch.equal(output.active, (codes > 0).sum(0))
    assert output.l1.item() == pytest.approx(codes.sum(1).mean().item(), rel=1e-5)


def test_gradient_stays_on_the_sphere_and_rows_return_to_it():
    autoencoder = TrainingAutoencoder(width=16, features=40, activation=TopK(3), seed=0)
    tokens = torch.randn(50, 16, generator=torch.Generator().manual_seed(1))
    (tokens - autoencoder(tokens).reconstruction).square().sum().backward()
    before = autoencoder.decoder.grad.clone()
    autoencoder.keep_gradient_on_sphere()
    along = (autoencoder.decoder.grad * autoencoder.decoder).sum(1)
    torch.testing.assert_close(along, torch.zeros(40), atol=1e-4, rtol=0)
    # What was taken out is parallel to the rows, nothing else.
    removed = before - autoencoder.decoder.grad
    parallel = (removed * autoencoder.decoder).sum(1, keepdim=True) * autoencoder.decoder
    torch.testing.assert_close(removed, parallel, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        autoencoder.decoder *= 3
    autoencoder.normalise_decoder()
    torch.testing.assert_close(autoencoder.decoder.norm(dim=1), torch.ones(40))
