import numpy as np
import pytest
import torch

from infoscope.dictionaries.activations import TopK
from infoscope.training.sparse_step import keep_topk, sparse_reconstruction

NAMES = ("encoder", "encoder_bias", "decoder")


def weights(width=12, features=50, bias=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(features, width, generator=generator),
        torch.randn(features, generator=generator) + bias,
        torch.randn(features, width, generator=generator),
    )


def dense(tokens, encoder, encoder_bias, decoder, k):
    return TopK(k)(tokens @ encoder.T + encoder_bias) @ decoder


@pytest.mark.parametrize(
    ("count", "k", "bias"),
    # The third leaves most tokens with fewer than k positive pre-activations, the fourth has k above the features.
    [(7, 4, 0.0), (1300, 8, 0.0), (40, 20, -5.0), (40, 80, 0.0), (1, 1, 0.0)],
)
def test_equals_dense_autograd_in_float64(count, k, bias):
    tokens = torch.randn(count, 12, generator=torch.Generator().manual_seed(1))
    parts = [part.requires_grad_() for part in weights(bias=bias)]
    exact = [part.detach().double().requires_grad_() for part in parts]
    above = torch.randn(count, 12, generator=torch.Generator().manual_seed(2))

    (result,), (start, feature, value) = sparse_reconstruction(tokens, *parts, keep_topk(k))
    expected = dense(tokens.double(), *exact, k)
    torch.testing.assert_close(result.double(), expected, atol=1e-4, rtol=1e-5)
    result.backward(above)
    expected.backward(above.double())
    for name, part, reference in zip(NAMES, parts, exact, strict=True):
        torch.testing.assert_close(part.grad.double(), reference.grad, atol=1e-3, rtol=1e-4, msg=name)
    codes = np.zeros((count, 50))
    codes[np.repeat(np.arange(count), np.diff(start)), feature] = value
    reference = TopK(k)(tokens.double() @ exact[0].T + exact[1]).detach()
    np.testing.assert_allclose(codes, reference, atol=1e-4)


def test_a_feature_that_never_fires_has_no_gradient():
    tokens = torch.randn(30, 12, generator=torch.Generator().manual_seed(1))
    encoder, encoder_bias, decoder = weights()
    encoder_bias[5] = -1e6
    parts = [part.requires_grad_() for part in (encoder, encoder_bias, decoder)]
    # Old gradients must not shine through where nothing is added.
    for part in parts:
        part.grad = torch.zeros_like(part)
    result, _ = sparse_reconstruction(tokens, *parts, keep_topk(4))
    result.square().sum().backward()
    assert all(not part.grad[5].any() for part in parts)
    assert all(part.grad.any() for part in parts)


def test_gradients_of_a_sum_with_a_broadcast_gradient():
    # `sum` hands a gradient down that is one number seen through strides of 0.
    tokens = torch.randn(9, 12, generator=torch.Generator().manual_seed(1))
    parts = [part.requires_grad_() for part in weights()]
    exact = [part.detach().double().requires_grad_() for part in parts]
    sparse_reconstruction(tokens, *parts, keep_topk(3))[0].sum().backward()
    dense(tokens.double(), *exact, 3).sum().backward()
    for part, reference in zip(parts, exact, strict=True):
        torch.testing.assert_close(part.grad.double(), reference.grad, atol=1e-4, rtol=1e-4)
