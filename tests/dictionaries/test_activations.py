import numpy as np
import pytest
import torch

from infoscope.dictionaries.activations import (
    ACTIVATIONS,
    Activation,
    ReLU,
    TopK,
    activation_from_json,
    activation_to_json,
)
from infoscope.errors import InfoscopeError


def from_positives(activation, pre):
    count, feature, value = activation.positives([(first, pre[:, first : first + 16]) for first in range(0, 40, 16)])
    codes = np.zeros_like(pre)
    codes[np.repeat(np.arange(len(pre)), count), feature] = value
    assert (value > 0).all()
    return codes


@pytest.mark.parametrize("activation", [ReLU(), TopK(1), TopK(5), TopK(40), TopK(1000)], ids=str)
def test_dense_and_sparse_codes_agree_with_the_definition(activation):
    pre = np.random.default_rng(0).integers(-9, 10, size=(64, 40)).astype(np.float32)
    expected = np.maximum(pre.astype(np.float64), 0)
    if isinstance(activation, TopK):
        order = np.argsort(-pre.astype(np.float64), axis=1, kind="stable")
        np.put_along_axis(expected, order[:, activation.k :], 0, axis=1)
    np.testing.assert_array_equal(activation(torch.from_numpy(pre)).numpy(), expected)
    np.testing.assert_array_equal(from_positives(activation, pre), expected)


def test_topk_keeps_leading_dimensions():
    pre = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(TopK(3)(pre)[1, 2], TopK(3)(pre[1, 2]))


def test_topk_passes_gradients_to_kept_positive_entries_only():
    pre = torch.tensor([[3.0, 1.0, 2.0], [-1.0, -2.0, 4.0]], requires_grad=True)
    TopK(2)(pre).sum().backward()
    assert pre.grad.tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize("activation", [ReLU(), TopK(7)], ids=str)
def test_json_round_trip(activation):
    assert isinstance(activation, Activation)
    assert activation_from_json(activation_to_json(activation)) == activation


def test_names_are_the_registry_s():
    assert {name: cls.name for name, cls in ACTIVATIONS.items()} == {name: name for name in ACTIVATIONS}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "softmax"}, "unknown activation function softmax; known are relu, topk"),
        ({}, "unknown activation function None"),
        ({"name": ["topk"], "k": 3}, "unknown activation function"),
        ({"name": "topk"}, "topk does not take the parameters {}"),
        ({"name": "topk", "k": 3, "threshold": 1}, "does not take the parameters"),
        ({"name": "relu", "k": 3}, "relu does not take the parameters"),
        ({"name": "topk", "k": "3"}, "not whole numbers"),
        ({"name": "topk", "k": 2.5}, "not whole numbers"),
        ({"name": "topk", "k": 0}, "k of at least 1, not 0"),
    ],
)
def test_json_that_is_refused(value, message):
    with pytest.raises(InfoscopeError, match=message):
        activation_from_json(value)
