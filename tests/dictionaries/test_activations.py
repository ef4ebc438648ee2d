import numpy as np
import pytest
import torch

from infoscope.dictionaries import dense, sparse
from infoscope.dictionaries.activations import (
    ACTIVATIONS,
    Activation,
    Gated,
    JumpReLU,
    ReLU,
    TopK,
    activation_from_json,
    activation_tensors,
    activation_to_json,
    map_tensors,
)
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError

FEATURES = 200
RANDOM = np.random.default_rng(1)
THRESHOLD = RANDOM.integers(-3, 7, FEATURES).astype(np.float32)
SLOPE, OFFSET = RANDOM.integers(1, 4, FEATURES).astype(np.float32), RANDOM.integers(-9, 9, FEATURES).astype(np.float32)
KINDS = [
    *(ReLU(), TopK(1), TopK(5), TopK(40), TopK(1000), TopK(150, relu=False)),
    JumpReLU(torch.from_numpy(THRESHOLD)),
    Gated(torch.from_numpy(SLOPE), torch.from_numpy(OFFSET)),
]


def defined(activation, pre):
    """The definition, in float64."""
    pre = pre.astype(np.float64)
    codes = np.maximum(pre, 0)
    if isinstance(activation, TopK):
        codes = codes if activation.relu else pre.copy()
        order = np.argsort(-pre, axis=1, kind="stable")
        np.put_along_axis(codes, order[:, activation.k :], 0, axis=1)
    elif isinstance(activation, JumpReLU):
        codes[pre <= THRESHOLD] = 0
    elif isinstance(activation, Gated):
        codes = (pre > 0) * np.maximum(SLOPE * pre + OFFSET, 0)
    return codes


@pytest.mark.parametrize("activation", KINDS, ids=str)
def test_every_way_to_codes_agrees_with_the_definition(activation, monkeypatch):
    """Dense, sparse, some features alone, images' maxima and sums, and reconstructions; with blocks of 64 features."""
    monkeypatch.setattr("infoscope.dictionaries.sparse.CPU_BYTES", 1)
    pre = np.random.default_rng(0).integers(-9, 10, size=(24, FEATURES)).astype(np.float32)
    expected = defined(activation, pre)
    np.testing.assert_array_equal(activation(torch.from_numpy(pre)).numpy(), expected)
    assert (expected < 0).any() == activation.signed

    # The identity makes tokens their own pre-activations; the tokens' last ones are the bias.
    b_enc, eye = torch.full((FEATURES,), 2.0), torch.eye(FEATURES)
    sae = SparseAutoencoder(eye, b_enc, eye, torch.ones(FEATURES), activation)
    tokens = torch.from_numpy(pre) - b_enc
    np.testing.assert_array_equal(sae.encode(tokens).numpy(), expected)
    np.testing.assert_array_equal(sae(tokens).numpy(), expected + 1)
    np.testing.assert_array_equal(dense.reconstruct(sae, tokens).numpy(), expected + 1)
    positive = np.maximum(expected, 0)
    np.testing.assert_array_equal(sparse.encode_sparse(sae, tokens).dense(FEATURES), positive)
    asked = np.array([199, 3, 64, 63, 0])
    np.testing.assert_array_equal(dense.encode_features(sae, tokens, asked), positive[:, asked])
    views = positive.reshape(4, 6, FEATURES)
    for how, reduced in (("max", views.max(1)), ("sum", views.sum(1)), ("mean", views.mean(1))):
        if activation.pointwise:
            score, active = dense.reduce_dense(sae, tokens, 6, how)
        else:
            codes = sparse.encode_sparse(sae, tokens)
            score, active = sparse.reduce_images(codes, 6, how, FEATURES), sparse.count_active(codes, FEATURES)
        np.testing.assert_allclose(score, reduced, rtol=1e-6)
        np.testing.assert_array_equal(active, (positive > 0).sum(0))


def test_codes_above_0_do_not_reconstruct_what_has_others():
    eye = torch.eye(4)
    sae = SparseAutoencoder(eye, torch.zeros(4), eye, torch.zeros(4), TopK(2, relu=False))
    with pytest.raises(ValueError, match="do not determine the reconstruction"):
        sparse.decode_sparse(sae, sparse.encode_sparse(sae, torch.ones(1, 4)))


def test_topk_keeps_leading_dimensions():
    pre = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(TopK(3)(pre)[1, 2], TopK(3)(pre[1, 2]))


def test_topk_passes_gradients_to_kept_positive_entries_only():
    pre = torch.tensor([[3.0, 1.0, 2.0], [-1.0, -2.0, 4.0]], requires_grad=True)
    TopK(2)(pre).sum().backward()
    assert pre.grad.tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize("activation", KINDS, ids=str)
def test_round_trip_as_data(activation):
    assert isinstance(activation, Activation)
    again = activation_from_json(activation_to_json(activation), activation_tensors(activation))
    assert activation_to_json(again) == activation_to_json(activation)
    for name, tensor in activation_tensors(activation).items():
        assert torch.equal(activation_tensors(again)[name], tensor)


def test_tensors_move_with_the_sae():
    weights = torch.eye(3), torch.zeros(3), torch.eye(3), torch.zeros(3)
    sae = SparseAutoencoder(*weights, JumpReLU(torch.ones(3, dtype=torch.float64)))
    assert sae.activation.threshold.dtype == torch.float32
    assert sae.to(torch.float64).activation.threshold.dtype == torch.float64
    assert sae.to("meta").activation.threshold.device.type == "meta"
    assert map_tensors(TopK(3), lambda tensor: tensor + 1) == TopK(3)


def test_a_threshold_of_the_wrong_length_or_nan_is_named():
    weights = torch.eye(3), torch.zeros(3), torch.eye(3), torch.zeros(3)
    with pytest.raises(InfoscopeError, match=r"threshold has shape \[2\], expected \[3\]"):
        SparseAutoencoder(*weights, JumpReLU(torch.ones(2)))
    with pytest.raises(InfoscopeError, match="threshold holds NaN"):
        SparseAutoencoder(*weights, JumpReLU(torch.full((3,), float("nan"))))


def test_names_are_the_registry_s():
    assert {name: cls.name for name, cls in ACTIVATIONS.items()} == {name: name for name in ACTIVATIONS}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "softmax"}, "unknown activation function softmax; known are relu, topk"),
        ({}, "unknown activation function None"),
        ({"name": ["topk"], "k": 3}, "unknown activation function"),
        ({"name": "topk"}, "topk does not take these parameters: none"),
        ({"name": "topk", "k": 3, "threshold": 1}, "does not take these parameters: k, threshold"),
        ({"name": "relu", "k": 3}, "relu does not take these parameters: k"),
        ({"name": "jumprelu"}, "jumprelu does not take these parameters: none"),
        ({"name": "topk", "k": "3"}, "not whole numbers"),
        ({"name": "topk", "k": 2.5}, "not whole numbers"),
        ({"name": "topk", "k": 0}, "k of at least 1, not 0"),
    ],
)
def test_json_that_is_refused(value, message):
    with pytest.raises(InfoscopeError, match=message):
        activation_from_json(value)
