"""What the tests of formats share: random weights, objects of packages that are not there, and the comparison."""

import pickle
import sys
import types

import pytest
import torch

WIDTH, FEATURES = 6, 14


def named(generator, **shapes):
    return {key: 0.4 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}


@pytest.fixture
def weights():
    """The four weights in SAELens's orientation, all of them away from 0."""
    generator = torch.Generator().manual_seed(3)
    shapes = {"W_enc": (WIDTH, FEATURES), "b_enc": (FEATURES,), "W_dec": (FEATURES, WIDTH), "b_dec": (WIDTH,)}
    return named(generator, **shapes)


@pytest.fixture
def gates():
    """A gated SAE's further tensors."""
    shapes = {"b_gate": (FEATURES,), "r_mag": (FEATURES,), "b_mag": (FEATURES,)}
    return named(torch.Generator().manual_seed(4), **shapes)


@pytest.fixture
def thresholds():
    """One a feature, above 0."""
    return torch.rand(FEATURES, generator=torch.Generator().manual_seed(5)) * 0.5 + 0.1


@pytest.fixture
def tokens():
    """In float64, in which formulas are compared."""
    return 1.5 * torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(6), dtype=torch.float64) + 0.7


@pytest.fixture
def agrees(tokens):
    """Compares codes and reconstructions with what a format's own formula gives."""

    def check(sae, codes, reconstruction, atol=1e-6):
        sae.double()
        ours = sae.encode(tokens)
        assert (codes != 0).any()
        assert (codes == 0).any()
        torch.testing.assert_close(ours, codes, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(sae.decode(ours, tokens), reconstruction, rtol=1e-6, atol=atol)

    return check


@pytest.fixture
def foreign():
    """Makes objects of a package that is gone when the file is read, as another project's are."""
    module = types.ModuleType("foreign_project")

    def make(kind, base=object, **attributes):
        made = type(kind, (base,), {"__module__": module.__name__})
        setattr(module, kind, made)
        value = made()
        value.__dict__.update(attributes)
        return value

    def save(value, path):
        sys.modules[module.__name__] = module
        try:
            torch.save(value, path)
        finally:
            del sys.modules[module.__name__]
        with pytest.raises((ModuleNotFoundError, pickle.UnpicklingError)):
            torch.load(path, weights_only=False)

    make.save = save
    return make


def keep_largest(pre, k, relu=True):
    """Top-k by sorting each row, with a loop: the tests' own."""
    out = torch.zeros_like(pre)
    for row, values in enumerate(pre.tolist()):
        for column in sorted(range(len(values)), key=lambda index, held=values: -held[index])[:k]:
            out[row, column] = max(values[column], 0.0) if relu else values[column]
    return out


@pytest.fixture
def top():
    return keep_largest
