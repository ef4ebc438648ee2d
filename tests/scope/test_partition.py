"""The partition on planted spectra, Otsu against brute force and a regression tree, and what cannot be divided."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.tree import DecisionTreeRegressor

from infoscope.errors import InfoscopeError
from infoscope.scope.modes import estimate_density, fit_mixtures
from infoscope.scope.partition import mixture_crossing, otsu_threshold, partition

METHODS = [("valley", {}), ("otsu", {}), ("mixture", {}), ("quantile", {"quantile": 0.3}), ("value", {"value": 0.2})]


def spectrum_of_one_mode(count: int = 3000) -> np.ndarray:
    return np.random.default_rng(0).gamma(2.0, 0.05, count)


def spectrum_of_two_modes(count: int = 3000) -> np.ndarray:
    """Local features about 0.08, a quarter of global ones about 0.4; the densities meet at 0.22."""
    rng = np.random.default_rng(1)
    return np.concatenate([rng.gamma(8.0, 0.01, 3 * count // 4), rng.normal(0.4, 0.06, count // 4)])


def test_two_modes_are_divided_at_their_valley():
    cds = spectrum_of_two_modes()
    result = partition(cds)
    assert result.kind == "valley"
    assert 0.2 < result.threshold < 0.3
    assert abs(len(result.low_cds) - 2250) < 30
    density = estimate_density(cds)
    x = density.x[(density.x > 0.1) & (density.x < 0.4)]
    assert result.threshold == pytest.approx(x[np.argmin(np.interp(x, density.x, density.value))], abs=1e-9)
    assert result.sentence().startswith("More than one mode (dip 0.0")
    assert result.sentence().endswith("is the lowest point between the two highest modes.")


def test_one_skewed_mode_is_divided_by_convention_at_otsus_threshold():
    cds = spectrum_of_one_mode()
    result = partition(cds)
    assert (result.method, result.kind) == ("valley", "convention")
    assert result.threshold == otsu_threshold(cds)
    assert result.evidence.one_mode
    assert "One mode (dip 0.00" in result.sentence()
    assert result.sentence().endswith("(Otsu) is a convention.")


def test_a_valley_that_the_dip_test_does_not_bear_out_is_a_convention():
    """Three in a hundred features lie apart: the density shows them, the dip test does not reject one mode."""
    rng = np.random.default_rng(3)
    cds = np.concatenate([rng.gamma(4.0, 0.02, 4000), rng.normal(0.4, 0.05, 120)])
    assert estimate_density(cds).valley() is not None
    result = partition(cds)
    assert result.evidence.one_mode
    assert (result.kind, result.threshold) == ("convention", otsu_threshold(cds))


def test_a_rejected_mode_without_a_valley_is_a_convention():
    """Values on a fine lattice: each point is a mode to the dip test, and none to the smoothed density."""
    cds = np.round(spectrum_of_one_mode(20_000), 2)
    result = partition(cds)
    assert not result.evidence.one_mode
    assert result.kind == "convention"
    assert "but the smoothed density has no valley" in result.sentence()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize("spectrum", [spectrum_of_one_mode, spectrum_of_two_modes])
def test_every_feature_has_one_place_and_a_cds_at_the_threshold_is_local(method, options, spectrum):
    cds = spectrum()
    cds[::7] = np.nan
    result = partition(cds, method, **options)
    everyone = np.concatenate([result.low_cds, result.high_cds, result.unscored])
    assert np.array_equal(np.sort(everyone), np.arange(len(cds)))
    assert np.all(cds[result.low_cds] <= result.threshold)
    assert np.all(cds[result.high_cds] > result.threshold)
    assert np.array_equal(result.unscored, np.arange(0, len(cds), 7))
    assert result.kind == ("valley" if method == "valley" and spectrum is spectrum_of_two_modes else "convention")


def test_a_value_equal_to_the_threshold_is_local():
    result = partition(np.array([0.1, 0.25, 0.4]), "value", value=0.25)
    assert result.low_cds.tolist() == [0, 1]
    assert result.high_cds.tolist() == [2]


def test_a_quantile_leaves_that_share_local():
    result = partition(spectrum_of_one_mode(1001), "quantile", quantile=0.3)
    assert len(result.low_cds) == 301
    assert "(quantile) is a convention" in result.sentence()


@given(st.lists(st.integers(0, 20), min_size=2, max_size=30))
def test_otsu_is_the_best_of_all_cuts(values):
    ordered = np.sort(np.array(values, np.float64)) / 20
    threshold = otsu_threshold(np.array(values, np.float64) / 20)

    def within(cut: float) -> float:
        low, high = ordered[ordered <= cut], ordered[ordered > cut]
        return float(len(low) * low.var() + (len(high) * high.var() if len(high) else 0.0))

    best = min(within(cut) for cut in ordered)
    assert within(threshold) == pytest.approx(best, abs=1e-12)


def test_otsu_is_the_first_cut_of_a_regression_tree():
    """Predicting the values from themselves, the tree's first cut leaves the least variance on both sides."""
    for values in (spectrum_of_one_mode(), spectrum_of_two_modes()):
        tree = DecisionTreeRegressor(max_leaf_nodes=2).fit(values[:, None], values)
        assert otsu_threshold(values) == pytest.approx(tree.tree_.threshold[0], abs=1e-6)


def test_otsu_divides_neighbouring_floats():
    low = 0.3
    high = np.nextafter(low, 1)
    assert otsu_threshold(np.array([high, low, low])) == low


def spectrum_of_a_peak_on_a_broad_slope() -> np.ndarray:
    """Global features in a peak on the slope of a broad hump of local ones, which is the denser again beyond it."""
    rng = np.random.default_rng(4)
    return np.concatenate([rng.normal(0.4, 0.08, 2000), rng.normal(0.55, 0.01, 1000)])


@pytest.mark.slow
@pytest.mark.parametrize("spectrum", [spectrum_of_two_modes, spectrum_of_a_peak_on_a_broad_slope])
def test_the_mixture_threshold_is_where_both_components_are_equally_dense(spectrum):
    cds = spectrum()
    fit = fit_mixtures(cds)[1]

    def difference(x: float) -> float:
        first, second = fit.weight * norm.pdf(x, fit.mean, fit.deviation)
        return float(first - second)

    assert mixture_crossing(cds) == pytest.approx(brentq(difference, *fit.mean), abs=1e-9)
    assert partition(cds, "mixture").threshold == mixture_crossing(cds)


def test_a_mixture_that_does_not_cross_is_refused():
    """A narrow peak on a broad low hump: even at the hump's own mean, to its left, the peak is the denser one."""
    rng = np.random.default_rng(2)
    cds = np.concatenate([rng.normal(0.46, 0.1, 100), rng.normal(0.5, 0.02, 900)])
    fit = fit_mixtures(cds)[1]
    first, second = fit.weight * norm.pdf(fit.mean[0], fit.mean, fit.deviation)
    assert first < second
    with pytest.raises(InfoscopeError, match="do not cross"):
        partition(cds, "mixture")


def test_too_few_different_values_for_a_mixture_are_refused():
    with pytest.raises(InfoscopeError, match="3 different CDS values are too few for a mixture: choose another"):
        partition(np.array([0.1, 0.2, 0.3]), "mixture")


@pytest.mark.parametrize("cds", [np.array([]), np.full(5, np.nan)])
def test_nothing_scored_is_refused(cds):
    with pytest.raises(InfoscopeError, match=f"none of {len(cds)} features has a CDS.*--min-pairs"):
        partition(cds)


@pytest.mark.parametrize("name", ["quantile", "value"])
@pytest.mark.parametrize("number", [None, -0.1, 1.5, float("nan")])
def test_a_missing_or_impossible_argument_is_refused(name, number):
    with pytest.raises(InfoscopeError, match=f"'{name}' needs {name} between 0 and 1, not"):
        partition(np.array([0.1, 0.2]), name, **{name: number})


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_scored_features_are_divided_by_convention(count):
    result = partition(np.linspace(0.1, 0.3, count))
    assert result.kind == "convention"
    assert len(result.low_cds) + len(result.high_cds) == count
    assert result.sentence().startswith(f"Too few scored features ({count}) to tell how many modes")


@pytest.mark.parametrize("value", [0.0, 0.25])
@pytest.mark.parametrize("count", [1, 40])
def test_equal_scores_are_all_low(value, count):
    result = partition(np.full(count, value))
    assert (result.kind, result.threshold) == ("convention", value)
    assert len(result.low_cds) == count


@pytest.mark.parametrize("cds", [spectrum_of_two_modes(), np.array([0.1, np.nan, 0.3]), np.full(9, 0.1)])
def test_the_document_is_plain_json(cds):
    result = partition(cds)
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert list(document) == [
        "format_version",
        "method",
        "kind",
        "threshold",
        "counts",
        "dip",
        "bic",
        "mixture_modes",
    ]
    assert document["counts"] == {
        "low_cds": len(result.low_cds),
        "high_cds": len(result.high_cds),
        "unscored": int(np.isnan(cds).sum()),
    }
    assert document["threshold"] == result.threshold
    assert document["bic"] == list(result.evidence.bic)


@pytest.mark.parametrize(("old", "new"), [("local", "low_cds"), ("global_", "high_cds")])
def test_the_old_names_of_the_sides_still_work_and_name_the_new_ones(old, new):
    result = partition(np.array([0.1, 0.2, 0.9]), "value", value=0.5)
    with pytest.warns(DeprecationWarning, match=f"Partition.{old} is now Partition.{new}"):
        features = getattr(result, old)
    np.testing.assert_array_equal(features, getattr(result, new))


def test_the_sides_are_never_called_by_the_classes_names():
    """By threshold and by class are two divisions of the features: one word for one thing."""
    result = partition(np.array([0.1, 0.2, 0.9, np.nan]))
    said = json.dumps(result.to_json()) + result.sentence() + repr(result)
    assert not re.search(r"local|global", said)
