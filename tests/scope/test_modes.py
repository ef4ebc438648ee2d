"""Evidence of modes against scipy's density, sklearn's mixtures and planted spectra."""

import numpy as np
import pytest
from scipy.stats import gaussian_kde, norm
from sklearn.mixture import GaussianMixture

from infoscope.scope.modes import (
    Density,
    Evidence,
    Mixture,
    dip_test,
    estimate_density,
    fit_mixtures,
    gather_evidence,
)


def skewed(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 0.05, count)


def two_humps(seed: int, count: int, share: float = 0.6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    local = round(share * count)
    return np.abs(np.concatenate([rng.normal(0.1, 0.03, local), rng.normal(0.35, 0.05, count - local)]))


@pytest.mark.parametrize("values", [skewed(0, 400), two_humps(1, 900), np.random.default_rng(2).exponential(0.1, 500)])
def test_density_is_scipys_reflected_at_0(values):
    density = estimate_density(values)
    quartiles = np.percentile(values, [25, 75])
    bandwidth = 0.9 * min(values.std(), np.diff(quartiles)[0] / 1.34) / len(values) ** 0.2
    assert density.bandwidth == pytest.approx(bandwidth, rel=1e-12)
    kde = gaussian_kde(values, bw_method=bandwidth / values.std(ddof=1))
    np.testing.assert_allclose(density.value, kde(density.x) + kde(-density.x), atol=2e-3 * density.value.max(), rtol=0)
    assert density.value.sum() * (density.x[1] - density.x[0]) == pytest.approx(1.0, abs=1e-9)


def test_modes_lie_where_they_were_planted():
    density = estimate_density(two_humps(3, 5000))
    np.testing.assert_allclose(density.x[density.modes()], [0.1, 0.35], atol=0.02)
    assert 0.18 < density.valley() < 0.25


def test_a_mode_at_0_is_one():
    density = estimate_density(np.random.default_rng(4).exponential(0.1, 5000))
    assert density.x[density.modes()].tolist() == pytest.approx([0.0], abs=density.bandwidth)
    assert density.valley() is None


def test_a_few_values_alone_in_a_tail_make_no_mode():
    values = np.concatenate([skewed(5, 3000), [0.90, 0.9001, 0.9002]])
    assert len(estimate_density(values).modes()) == 1
    crowd = np.concatenate([skewed(5, 3000), np.linspace(0.9, 0.901, 30)])
    assert len(estimate_density(crowd).modes()) == 2


def test_the_valley_lies_between_the_two_highest_of_three_modes():
    x = np.linspace(0.0, 1.0, 2001)
    value = 5 * norm.pdf(x, 0.2, 0.03) + 3 * norm.pdf(x, 0.5, 0.03) + norm.pdf(x, 0.8, 0.03)
    density = Density(x, value / 9, bandwidth=0.01, size=100_000)
    np.testing.assert_allclose(x[density.modes()], [0.2, 0.5, 0.8], atol=1e-3)
    assert 0.3 < density.valley() < 0.4


def test_a_gap_without_density_is_halved():
    density = estimate_density(np.concatenate([np.linspace(0.10, 0.11, 360), np.linspace(0.89, 0.90, 40)]))
    assert density.value[np.searchsorted(density.x, 0.4)] == 0
    assert density.valley() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("values", [np.zeros(9), np.full(9, 0.3), np.array([0.2])])
def test_equal_values_have_one_mode(values):
    density = estimate_density(values)
    assert density.x[density.modes()].tolist() == pytest.approx([values[0]], abs=1e-4)


def test_the_dip_test_keeps_its_level_and_finds_two_modes():
    rng = np.random.default_rng(6)
    rejected = np.mean([dip_test(rng.random(200))[1] < 0.05 for _ in range(400)])
    assert 0.02 < rejected < 0.08
    assert dip_test(two_humps(7, 500))[1] < 0.001
    assert dip_test(skewed(8, 500))[1] > 0.3


def test_the_dip_test_answers_beyond_the_largest_table():
    """Above 72,000 values: one mode stays one, and the p-value goes on from the last table."""
    assert dip_test(skewed(9, 100_000))[1] > 0.5
    assert dip_test(two_humps(10, 100_000))[1] < 0.001
    at, above = dip_test(np.linspace(0, 1, 72_000) ** 2), dip_test(np.linspace(0, 1, 72_001) ** 2)
    assert above == pytest.approx(at, rel=1e-3)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_values_have_no_dip(count):
    assert np.isnan(dip_test(np.linspace(0, 1, count))).all()


def test_one_component_is_the_normal_fit():
    values = skewed(11, 500)
    fit = fit_mixtures(values)[0]
    likelihood = norm.logpdf(values, values.mean(), values.std()).sum()
    assert fit.bic == pytest.approx(-2 * likelihood + 2 * np.log(500), abs=0.01)


@pytest.mark.parametrize("values", [skewed(12, 2000), two_humps(13, 2000)], ids=["skewed", "two humps"])
def test_mixtures_fit_at_least_as_well_as_sklearns_best_of_five(values):
    fits = fit_mixtures(values)
    assert len(fits) == 4
    for components, fit in enumerate(fits, start=1):
        model = GaussianMixture(components, n_init=5, random_state=0, max_iter=500).fit(values[:, None])
        assert fit.bic < model.bic(values[:, None]) + 10
        assert fit.weight.sum() == pytest.approx(1.0)
        assert np.all(np.diff(fit.mean) >= 0)


def test_a_mixture_of_many_values_is_fitted_to_fewer_and_judged_on_all():
    values = two_humps(14, 30_000)
    fit = fit_mixtures(values)[1]
    np.testing.assert_allclose(fit.mean, [0.1, 0.35], atol=0.003)
    np.testing.assert_allclose(fit.deviation, [0.03, 0.05], atol=0.002)
    np.testing.assert_allclose(fit.weight, [0.6, 0.4], atol=0.01)
    likelihood = np.log(fit.density(values)).sum()
    assert fit.bic == pytest.approx(-2 * likelihood + 5 * np.log(30_000), rel=1e-6)


@pytest.mark.parametrize(("values", "fits"), [([0.3] * 20, 0), ([0.1, 0.2], 1), (np.linspace(0, 1, 8), 2)])
def test_few_different_values_get_few_components(values, fits):
    assert len(fit_mixtures(np.array(values, np.float64))) == fits


@pytest.mark.parametrize(("distance", "modes"), [(1.95, 1), (2.05, 2), (6.0, 2)])
def test_two_equal_gaussians_have_two_modes_beyond_two_deviations(distance, modes):
    mixture = Mixture(np.array([0.5, 0.5]), np.array([0.2, 0.2 + 0.1 * distance]), np.array([0.1, 0.1]), 0.0)
    assert mixture.modes() == modes


def test_a_narrow_component_on_a_broad_one_is_found():
    mixture = Mixture(np.array([0.99, 0.01]), np.array([0.3, 0.5]), np.array([0.1, 1e-4]), 0.0)
    assert mixture.modes() == 2
    x = np.array([0.1, 0.3, 0.5])
    expected = 0.99 * norm.pdf(x, 0.3, 0.1) + 0.01 * norm.pdf(x, 0.5, 1e-4)
    np.testing.assert_allclose(mixture.density(x), expected, rtol=1e-12)


def test_one_skewed_mode_is_one_mode_though_bic_prefers_several_components():
    values = skewed(15, 4096)
    evidence = gather_evidence(values, estimate_density(values))
    assert np.argmin(evidence.bic) + 1 >= 3
    assert evidence.one_mode
    assert evidence.modes == 1


def test_two_modes_are_found_by_every_measure():
    values = two_humps(16, 4096)
    evidence = gather_evidence(values, estimate_density(values))
    assert not evidence.one_mode
    assert evidence.modes == evidence.mixture_modes == 2


def test_evidence_is_the_same_every_time():
    values = two_humps(17, 500)
    assert gather_evidence(values, estimate_density(values)) == gather_evidence(values, estimate_density(values))


def test_the_mixture_sentence_counts_and_disclaims():
    one = Evidence(0.01, 0.9, 1, (1.0, 2.0), 1).mixture_sentence()
    assert one == "By BIC, 1 Gaussian describes the shape best; it has 1 mode. That is no evidence of modes."
    assert Evidence(0.01, 0.9, 1, (), 1).mixture_sentence() == ""
