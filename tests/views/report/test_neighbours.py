import numpy as np
import pytest

from infoscope.views.report import neighbours
from infoscope.views.report.neighbours import by_cofiring, by_direction


def brute_force(rows, count):
    """Every feature's nearest others by cosine, with ties by number."""
    norm = np.linalg.norm(rows, axis=1)
    with np.errstate(invalid="ignore"):
        cosine = rows @ rows.T / np.outer(norm, norm)
    np.fill_diagonal(cosine, -np.inf)
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(cosine, order, axis=1)


@pytest.mark.parametrize("block", [7, 512])
def test_directions_are_compared_by_cosine(monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    rows = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    found = by_direction(rows * np.linspace(0.1, 9.0, 40, dtype=np.float32)[:, None], count=6)
    order, cosine = brute_force(rows.astype(float), 6)
    np.testing.assert_array_equal(found.feature, order)
    np.testing.assert_allclose(found.likeness, cosine, atol=1e-6)


def test_a_direction_of_zero_has_no_neighbours_and_is_none():
    rows = np.array([[1, 0], [0, 0], [1, 1]], np.float32)
    found = by_direction(rows, count=2)
    assert [[other for other, _ in found.of(feature)] for feature in range(3)] == [[2], [], [0]]


@pytest.mark.parametrize("block", [3, 512])
def test_cofiring_is_the_cosine_of_codes_over_tokens(monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    random = np.random.default_rng(1)
    codes = np.where(random.random((20, 60)) < 0.3, random.gamma(2.0, 1.0, (20, 60)), 0.0).astype(np.float32)
    codes[7] = 0.0
    feature, token = np.nonzero(codes)
    # Numbers of tokens are sparse: image times patches, plus patch.
    found = by_cofiring(feature.astype(np.uint32), 1000 * token, codes[feature, token], 20, count=4)
    order, cosine = brute_force(codes.astype(float), 4)
    for one in range(20):
        expected = [(o, c) for o, c in zip(order[one].tolist(), cosine[one].tolist(), strict=True) if c > 0]
        assert [other for other, _ in found.of(one)] == [other for other, _ in expected]
        np.testing.assert_allclose([value for _, value in found.of(one)], [value for _, value in expected], atol=1e-6)
    assert found.of(7) == []


def test_a_dictionary_of_one_has_no_neighbours():
    assert by_direction(np.ones((1, 3), np.float32)).of(0) == []
    empty = np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0, np.float32)
    assert by_cofiring(*empty, n_features=1).of(0) == []
