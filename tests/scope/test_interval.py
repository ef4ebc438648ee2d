"""The bootstrap-t interval against its definition, by simulation, and on samples that break a naive one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from infoscope.scope.interval import hoeffding_upper, mean_interval


def grouped(samples: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    start = np.concatenate([[0], np.cumsum([len(sample) for sample in samples])]).astype(np.int64)
    return np.array([value for sample in samples for value in sample], np.float64), start


def slow_bound(mean: float, size: int, tail: float) -> float:
    """The upper end of Hoeffding's inequality, by root finding; 1 where it is closer to 1 than floats tell."""

    def excess(u: float) -> float:
        terms = [p * np.log(p / q) for p, q in ((mean, u), (1 - mean, 1 - u)) if p > 0]
        return float(size * sum(terms) + np.log(tail))

    top = 1 - 1e-15
    return brentq(excess, mean, top, xtol=1e-14) if mean < top and excess(top) > 0 else 1.0


def slow_interval(sample: list[float], draws: int, seed: int) -> tuple[float, float]:
    """The definition, draw by draw: resample, studentise, take order statistics, cut at Hoeffding's bound."""
    values = np.array(sample)
    size = len(values)
    counts = np.random.default_rng([seed, size]).multinomial(size, [1 / size] * size, size=draws)
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(size)
    t = []
    for count in counts:
        resample = np.repeat(values, count)
        offset = resample.mean() - mean
        if len(set(resample)) > 1:
            t.append(offset / (resample.std(ddof=1) / np.sqrt(size)))
        else:
            t.append(0.0 if abs(offset) < 1e-12 else np.copysign(np.inf, offset))
    t.sort()
    rank = round((draws + 1) * 0.025)
    lower, upper = mean - t[-rank] * error, mean - t[rank - 1] * error
    return (
        max(lower, 1 - slow_bound(1 - mean, size, 0.025)),
        min(upper, slow_bound(mean, size, 0.025)),
    )


def test_equals_the_definition():
    rng = np.random.default_rng(3)
    samples = [rng.gamma(0.7, 0.1, size).clip(0, 1).tolist() for size in (2, 3, 8, 16, 16, 33)]
    samples += [[0.0] * 15 + [0.3], [0.0] * 12 + [0.1, 0.2, 0.4, 0.4], [1.0] * 9 + [0.9], [0.1, 0.2, 0.3]]
    lower, upper = mean_interval(*grouped(samples), draws=399, seed=5)
    expected = np.array([slow_interval(sample, draws=399, seed=5) for sample in samples])
    np.testing.assert_allclose(lower, expected[:, 0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(upper, expected[:, 1], rtol=1e-9, atol=1e-12)


def test_covers_the_mean_of_skewed_samples_where_the_percentile_bootstrap_does_not():
    """Gamma values of skew 2.4 at k = 16; 4000 samples put the standard error of a coverage at 0.4 points."""
    rng = np.random.default_rng(0)
    shape, size, count = (2 / 2.4) ** 2, 16, 4000
    samples = rng.gamma(shape, 0.1, (count, size))
    samples = samples[samples.max(axis=1) <= 1]
    mean = shape * 0.1
    start = np.arange(len(samples) + 1, dtype=np.int64) * size
    lower, upper = mean_interval(samples.ravel(), start)
    covered = np.mean((lower <= mean) & (mean <= upper))

    draws = samples @ rng.multinomial(size, [1 / size] * size, size=999).T / size
    ends = np.quantile(draws, [0.025, 0.975], axis=1)
    percentile = np.mean((ends[0] <= mean) & (mean <= ends[1]))
    assert 0.92 < covered < 0.96
    assert 0.85 < percentile < 0.90


def test_covers_the_mean_where_most_values_are_equal():
    """Two in ten values above 0: many draws have no spread, and intervals that leave those out cover 0.76."""
    rng = np.random.default_rng(1)
    size, count = 16, 4000
    samples = np.where(rng.random((count, size)) < 0.8, 0.0, rng.gamma(0.7, 0.1, (count, size)).clip(0, 1))
    start = np.arange(count + 1, dtype=np.int64) * size
    lower, upper = mean_interval(samples.ravel(), start)
    mean = 0.2 * 0.07
    constant = samples.max(axis=1) == 0
    assert np.mean((lower <= mean) & (mean <= upper)) > 0.95
    assert np.all(upper[~constant] < 0.5)
    assert np.all(upper[constant] == 0)


def test_an_interval_does_not_depend_on_the_other_groups_or_their_order():
    rng = np.random.default_rng(2)
    samples = [rng.beta(1, 8, size).tolist() for size in (16, 9, 16, 1, 0, 12, 16)]
    lower, upper = mean_interval(*grouped(samples))
    order = [6, 3, 1, 0]
    again = mean_interval(*grouped([samples[i] for i in order]))
    assert np.array_equal(again[0], lower[order], equal_nan=True)
    assert np.array_equal(again[1], upper[order], equal_nan=True)


def test_the_seed_decides():
    values, start = grouped([[0.1, 0.4, 0.2, 0.3, 0.15, 0.5]])
    assert mean_interval(values, start, seed=1) == mean_interval(values, start, seed=1)
    assert mean_interval(values, start, seed=1) != mean_interval(values, start, seed=2)


def test_fewer_than_two_values_have_no_interval_and_equal_values_a_degenerate_one():
    lower, upper = mean_interval(*grouped([[], [0.3], [0.25, 0.25], [0.5, 0.5, 0.5]]))
    assert np.isnan(lower[:2]).all()
    assert np.isnan(upper[:2]).all()
    assert lower[2:].tolist() == upper[2:].tolist() == [0.25, 0.5]


def test_values_that_differ_by_rounding_are_equal():
    third = 0.1 + 0.2
    (lower,), (upper,) = mean_interval(*grouped([[0.3] * 7 + [third] * 9]))
    assert third != 0.3
    assert lower == upper == pytest.approx(0.3, rel=1e-15)


def test_no_groups_give_no_intervals():
    lower, upper = mean_interval(np.array([], np.float64), np.array([0], np.int64))
    assert len(lower) == len(upper) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1e-16, 2 / 11, 1.0]), min_size=2, max_size=20))
def test_the_interval_holds_the_mean_and_stays_within_0_and_1(sample):
    (lower,), (upper,) = mean_interval(*grouped([sample]))
    mean = np.cumsum(sample)[-1] / len(sample)
    assert 0 <= lower <= mean <= upper <= 1


def test_a_lower_level_gives_a_narrower_interval():
    values, start = grouped([[0.1, 0.4, 0.2, 0.3, 0.15, 0.5, 0.1, 0.2]])
    (wide_low,), (wide_high,) = mean_interval(values, start)
    (low,), (high,) = mean_interval(values, start, level=0.8)
    assert wide_low < low < high < wide_high


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_values_outside_0_to_1_are_refused(value):
    with pytest.raises(ValueError, match="0 to 1"):
        mean_interval(np.array([0.1, value]), np.array([0, 2], np.int64))


@pytest.mark.parametrize("draws", [1000, 10])
def test_draws_without_an_order_statistic_at_the_level_are_refused(draws):
    with pytest.raises(ValueError, match="no order statistic at level"):
        mean_interval(np.array([0.1, 0.2]), np.array([0, 2], np.int64), draws=draws)


def test_hoeffdings_bound_has_its_closed_form_at_0_and_its_root_elsewhere():
    means = np.array([0.0, 0.05, 0.3, 0.9, 1.0])
    bounds = hoeffding_upper(means, size=16, tail=0.025)
    assert bounds[0] == pytest.approx(1 - 0.025 ** (1 / 16), rel=1e-12)
    np.testing.assert_allclose(bounds, [slow_bound(mean, 16, 0.025) for mean in means], rtol=1e-9)
