"""Cutoffs and the presence rule against hand-computed cases and numpy."""

import numpy as np
import pytest

from infoscope.analyses.outliers.config import OutlierConfig
from infoscope.analyses.outliers.cutoffs import describe_norms, norm_valley
from infoscope.errors import InfoscopeError


def test_the_cutoffs_of_ten_tokens_by_hand():
    # Mean 2, mean square 13: a variance of 9.
    found = describe_norms(np.float32([1] * 9 + [11]), fixed=10.5)
    assert (found.tokens, found.mean, found.deviation, found.median, found.longest) == (10, 2.0, 3.0, 1.0, 11.0)
    assert dict(found.thresholds) == {"std": 11.0, "value": 10.5, "percentile": pytest.approx(9.2), "valley": None}
    # A token at the cutoff does not exceed it.
    assert dict(found.shares) == {"std": 0.0, "value": 0.1, "percentile": 0.1, "valley": None}
    assert found.long_share == 0.1
    assert found.reach == 11.0


def test_numpy_has_the_same():
    norms = np.random.default_rng(0).lognormal(1.0, 0.3, 5001).astype(np.float32)
    found = describe_norms(norms)
    exact = norms.astype(np.float64)
    assert found.thresholds["std"] == pytest.approx(exact.mean() + 3 * np.sqrt(np.mean((exact - exact.mean()) ** 2)))
    assert found.thresholds["percentile"] == pytest.approx(np.sort(exact)[4900])
    assert found.shares["percentile"] == pytest.approx(100 / 5001)
    assert found.thresholds["value"] is None
    assert found.shares["value"] is None


@pytest.mark.parametrize(
    ("tokens", "long", "present"), [(20000, 1, False), (20000, 2, True), (10000, 1, True), (10001, 1, False)]
)
def test_one_token_in_ten_thousand_makes_them_present(tokens, long, present):
    norms = np.ones(tokens, np.float32)
    norms[:long] = 3.01
    assert describe_norms(norms).present is present


def test_three_times_the_median_is_not_more_than_it():
    norms = np.float32([1.0] * 99 + [3.0])
    assert not describe_norms(norms).present
    assert describe_norms(np.float32([1.0] * 99 + [3.01])).present


def test_a_tail_however_long_its_std_is_no_outlier():
    # One wide mode: 3 std are passed by many, 3 medians by none.
    norms = (10 + np.random.default_rng(0).exponential(1.0, 50000)).astype(np.float32)
    found = describe_norms(norms)
    assert found.shares["std"] > 0.01
    assert not found.present
    assert found.thresholds["valley"] is None


def test_the_valley_lies_between_the_modes():
    rng = np.random.default_rng(0)
    body, outliers = rng.normal(10, 1, 20000), rng.normal(80, 10, 200)
    valley = norm_valley(np.concatenate([body, outliers]).astype(np.float32))
    assert valley is not None
    assert body.max() < valley < outliers.min()
    # Scale-free: the same tokens in other units.
    assert norm_valley((np.concatenate([body, outliers]) * 1000).astype(np.float32)) == pytest.approx(
        1000 * valley, rel=1e-3
    )


def test_the_valley_is_below_the_uppermost_mode_not_within_the_body():
    rng = np.random.default_rng(1)
    body = np.concatenate([rng.normal(10, 0.5, 20000), rng.normal(14, 0.5, 15000)])
    outliers = rng.lognormal(np.log(90), 0.15, 300)
    valley = norm_valley(np.concatenate([body, outliers]).astype(np.float32))
    assert valley is not None
    assert body.max() < valley < outliers.min()


@pytest.mark.parametrize("norms", [[5.0], [5.0, 5.0, 5.0], [0.0, 0.0], [0.0, 5.0]])
def test_norms_that_are_all_equal(norms):
    found = describe_norms(np.float32(norms))
    assert found.thresholds["valley"] is None
    assert not found.present or found.median == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": "value"}, "--cutoff value needs a norm: give --cutoff-value"),
        ({"cutoff_value": 0.0}, "--cutoff-value 0.0 is out of range: choose a finite number above 0"),
        ({"cutoff_value": float("nan")}, "--cutoff-value nan is out of range"),
        ({"sample_images": 0}, "--sample-images 0 is out of range"),
        ({"probe_tokens": -1}, "--probe-tokens -1 is out of range"),
        ({"shift": -1}, "--shift -1 is out of range"),
        ({"seed": -1}, "--seed -1 is out of range"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InfoscopeError, match=message):
        OutlierConfig(**options)
