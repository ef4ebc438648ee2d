import numpy as np
import pytest
import torch

from infoscope.dictionaries.fvu import FVU


def two_passes(tokens, reconstruction):
    x, r = tokens.double().numpy(), reconstruction.double().numpy()
    return ((x - r) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()


def some_tokens(offset=0.0, count=1000, width=12):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(count, width, generator=generator) * torch.linspace(0.1, 3, width) + offset
    return tokens, tokens + 0.3 * torch.randn(count, width, generator=generator)


@pytest.mark.parametrize("offset", [0.0, 10.0, 1e6])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_equals_two_passes_however_large_the_mean(offset, batch):
    tokens, reconstruction = some_tokens(offset)
    fvu = FVU(12)
    for first in range(0, len(tokens), batch):
        fvu.update(tokens[first : first + batch], reconstruction[first : first + batch])
    assert fvu.tokens == 1000
    assert fvu.value == pytest.approx(two_passes(tokens, reconstruction), rel=1e-9)
    x = tokens.double().numpy()
    assert fvu.mean_over_std == pytest.approx(np.linalg.norm(x.mean(0)) / np.sqrt(x.var(0).sum()), rel=1e-9)


def test_is_against_the_mean():
    tokens, _ = some_tokens(offset=5.0)
    fvu = FVU(12)
    fvu.update(tokens, tokens.mean(0).expand_as(tokens))
    assert fvu.value == pytest.approx(1, rel=1e-6)


def test_merges_in_any_order():
    tokens, reconstruction = some_tokens(offset=100.0)
    parts = []
    for rows in (slice(0, 1), slice(1, 400), slice(400, 400), slice(400, 1000)):
        part = FVU(12)
        part.update(tokens[rows], reconstruction[rows])
        parts.append(part)
    expected = two_passes(tokens, reconstruction)
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)):
        merged = FVU(12)
        for place in order:
            merged.merge(parts[place])
        assert merged.tokens == 1000
        assert merged.value == pytest.approx(expected, rel=1e-9)


def test_arrays_round_trip_exactly():
    tokens, reconstruction = some_tokens()
    fvu = FVU(12)
    fvu.update(tokens, reconstruction)
    again = FVU.from_arrays(fvu.arrays())
    assert (again.tokens, again.value, again.mean_over_std) == (fvu.tokens, fvu.value, fvu.mean_over_std)
    assert np.isnan(FVU.from_arrays(FVU(12).arrays()).value)


def test_undefined_without_variance():
    fvu = FVU(2)
    assert np.isnan(fvu.value)
    fvu.update(torch.ones(5, 2), torch.zeros(5, 2))
    assert np.isnan(fvu.value)
    assert np.isnan(fvu.mean_over_std)
