"""An activation function that is neither pointwise nor top-k, as someone else would write it, works everywhere."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import infoscope
from infoscope.dictionaries import activations as activation_form
from infoscope.dictionaries import dense, sparse
from infoscope.dictionaries.parts import decode_part, encode_parts
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError

FEATURES = 200


@dataclass(frozen=True, eq=False)
class NearMaximum:
    """What reaches a share of the token's largest pre-activation, weighed by feature."""

    name: ClassVar[str] = "near-maximum"
    pointwise: ClassVar[bool] = False
    signed: ClassVar[bool] = False
    share: float
    weight: Tensor

    def __call__(self, pre):
        return torch.where(pre >= self.share * pre.amax(-1, keepdim=True), torch.relu(pre) * self.weight, 0.0)

    def at(self, features):
        raise ValueError("a code depends on all features")

    def scaled(self, factor):
        return self


@dataclass(frozen=True)
class Softmax:
    """Dense codes that sum to 1."""

    name: ClassVar[str] = "softmax"
    pointwise: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def __call__(self, pre):
        return torch.softmax(pre, -1)

    def at(self, features):
        raise ValueError("a code depends on all features")

    def scaled(self, factor):
        raise ValueError("it does not commute with a factor")


@dataclass(frozen=True)
class Centred:
    """Codes of both signs: each pre-activation without the token's mean."""

    name: ClassVar[str] = "centred"
    pointwise: ClassVar[bool] = False
    signed: ClassVar[bool] = True

    def __call__(self, pre):
        return pre - pre.mean(-1, keepdim=True)

    def at(self, features):
        raise ValueError("a code depends on all features")

    def scaled(self, factor):
        return self


KINDS = [NearMaximum(0.5, torch.linspace(0.5, 2.0, FEATURES)), Softmax(), Centred()]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def sae(request):
    eye = torch.eye(FEATURES)
    return SparseAutoencoder(eye, torch.zeros(FEATURES), eye, torch.ones(FEATURES), request.param)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(activation_form, "ACTIVATIONS", dict(activation_form.ACTIVATIONS))


@pytest.mark.parametrize("count", [24, 700])
def test_every_way_to_codes(sae, monkeypatch, count):
    """With blocks of 64 features and several chunks of tokens: what a code depends on lies in all of them."""
    monkeypatch.setattr("infoscope.dictionaries.sparse.CPU_BYTES", 1)
    tokens = torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(0))
    codes = sae.activation(tokens)
    positive = codes.clamp(min=0).numpy()
    assert isinstance(sae.activation, infoscope.Activation)
    assert torch.equal(sae.encode(tokens), codes)
    np.testing.assert_allclose(sparse.encode_sparse(sae, tokens).dense(FEATURES), positive, rtol=1e-6)
    np.testing.assert_allclose(dense.reconstruct(sae, tokens), codes + 1, rtol=1e-5, atol=1e-6)
    asked = np.array([199, 3, 64, 63, 0])
    np.testing.assert_allclose(dense.encode_features(sae, tokens, asked), positive[:, asked], rtol=1e-6)
    for how in ("max", "mean", "sum"):
        score, active = dense.reduce_dense(sae, tokens, 4, how)
        listed = sparse.encode_sparse(sae, tokens)
        np.testing.assert_allclose(score, sparse.reduce_images(listed, 4, how, FEATURES), rtol=1e-5)
        np.testing.assert_array_equal(active, (positive > 0).sum(0))
    every = torch.ones(FEATURES, dtype=torch.bool)
    torch.testing.assert_close(decode_part(sae, encode_parts(sae, tokens), every) + 1, sae(tokens))


def test_saving_is_refused_by_name_and_works_once_registered(tmp_path, registered):
    activation = KINDS[0]
    eye = torch.eye(FEATURES)
    made = SparseAutoencoder(eye, torch.zeros(FEATURES), eye, torch.ones(FEATURES), activation)
    with pytest.raises(InfoscopeError, match=r"near-maximum is not registered.*infoscope\.register_activation"):
        infoscope.save_sae(made, tmp_path / "sae")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InfoscopeError, match="which SAELens lacks"):
        infoscope.save_saelens(made, tmp_path / "lens")
    infoscope.register_activation(NearMaximum)
    infoscope.save_sae(made, tmp_path / "sae")
    again = infoscope.load_sae(tmp_path / "sae")
    tokens = torch.randn(5, FEATURES)
    assert torch.equal(again.encode(tokens), made.encode(tokens))
    assert again.sha256 == made.sha256


@pytest.mark.parametrize("value", ["0.5", True, None, float("nan"), [0.5]])
def test_a_parameter_of_the_wrong_type(registered, value):
    infoscope.register_activation(NearMaximum)
    with pytest.raises(InfoscopeError, match="near-maximum are not finite numbers: share is"):
        activation_form.activation_from_json({"name": "near-maximum", "share": value}, {"weight": torch.ones(FEATURES)})


def test_what_cannot_be_registered(registered):
    with pytest.raises(InfoscopeError, match="is not an activation function"):
        infoscope.register_activation(dict)
    other = dataclass(frozen=True)(type("Other", (), {"name": "topk"}))
    with pytest.raises(InfoscopeError, match="there is another activation function topk"):
        infoscope.register_activation(other)


def test_k_beyond_the_features_takes_no_memory():
    eye = torch.eye(8)
    made = SparseAutoencoder(eye, torch.zeros(8), eye, torch.zeros(8), infoscope.TopK(10**15))
    tokens = torch.randn(3, 8)
    np.testing.assert_array_equal(sparse.encode_sparse(made, tokens).dense(8), tokens.clamp(min=0))
