"""Correlations against scipy, the correction against its textbook case, and what is not defined."""

import numpy as np
import pytest
from scipy import stats

from infoscope.scope.reliability import agreement, spearman, split_half


def test_correlations_are_scipys():
    rng = np.random.default_rng(0)
    even = rng.random(200).round(1)  # with ties
    odd = np.where(rng.random(200) < 0.1, np.nan, even + 0.3 * rng.random(200))
    both = ~np.isnan(odd)
    found = split_half(even, odd)
    for value, r in (
        (found.spearman, stats.spearmanr(even[both], odd[both]).statistic),
        (found.pearson, stats.pearsonr(even[both], odd[both]).statistic),
    ):
        assert value == pytest.approx(2 * r / (1 + r), rel=1e-12)
    assert found.features == both.sum()
    assert agreement(odd, even).spearman == pytest.approx(stats.spearmanr(even[both], odd[both]).statistic, rel=1e-12)
    assert agreement(odd, even).mean == pytest.approx(np.nanmean(odd))
    assert agreement(odd, even).cds_mean == pytest.approx(even[both].mean())


def test_halves_of_a_known_reliability():
    """True scores of variance 1 and errors of variance 1 in a half: r is 1/2, and of the whole 2/3."""
    rng = np.random.default_rng(1)
    true = rng.normal(size=40_000)
    found = split_half(true + rng.normal(size=40_000), true + rng.normal(size=40_000))
    assert found.pearson == pytest.approx(2 / 3, abs=0.01)


def test_disagreement_is_not_corrected():
    """2 r / (1 + r) would be -118 at r = -0.983, and is not defined at -1."""
    even = np.arange(9.0)
    for odd in (-even, -np.array([0.0, 1, 2, 3, 4, 5, 6, 8, 7])):
        found = split_half(even, odd)
        r = stats.spearmanr(even, odd).statistic
        assert (found.spearman, found.pearson) == pytest.approx((r, r))


def test_what_is_not_defined():
    few, same = np.array([0.1, 0.2]), np.full(9, 0.3)
    assert np.isnan(split_half(few, few).spearman)
    assert np.isnan(split_half(same, np.arange(9.0)).pearson)
    assert np.isnan(spearman(same, same))
    none = agreement(np.full(3, np.nan), np.zeros(3))
    assert none.features == 0
    assert np.isnan([none.mean, none.cds_mean, none.spearman]).all()
