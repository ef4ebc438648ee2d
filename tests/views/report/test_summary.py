import numpy as np
import polars as pl
import pytest

from infoscope.measurement.summary import (
    Settings,
    counts_of,
    extremes,
    fit_sentence,
    partition_of,
    quantiles_of,
    retention_flag,
    settings_of,
)
from infoscope.runtime.manifest import FitRecord
from infoscope.scope.partition import partition


def settings(grid, shift, metric="euclidean"):
    return Settings(grid, shift, 14, "stretch", 16, 8, "max", "full", metric, "leave-out")


@pytest.mark.parametrize(("side", "expected"), [(10, 0.4075), (12, 0.4008), (13, 0.3982), (14, 0.3960)])
def test_two_unrelated_patches_score_what_the_method_states(side, expected):
    assert settings(side + 2, 2).unrelated == pytest.approx(expected, abs=5e-5)


def test_unrelated_under_l1_is_a_third_of_the_grid_per_axis():
    # The mean of |i - j| over a line of m cells is (m^2 - 1) / 3m; two axes, over a diagonal of 2 (m - 1).
    assert settings(12, 2, "l1").unrelated == pytest.approx((99 / 30) / 9)


def test_a_glued_map_scores_what_the_method_states():
    assert settings(14, 2).position_glued == pytest.approx(0.182, abs=5e-4)
    assert settings(14, 0).position_glued is None
    assert settings(6, 4).position_glued is None, "a shift this large takes every position out of the overlap"


def test_min_pairs_defaults_to_half_rounded_up(fake_run):
    assert settings_of(fake_run([0.1])).min_pairs == 2


def test_counts(fake_run):
    columns = {
        1: {"scope_class": "diffuse"},
        2: {"effective_area": 8.5},
        3: {"scope_class": "diffuse"},
        4: {"images_active": 0, "vanished": None},
        5: {"vanished": 0.75},
        6: {"vanished": 0.5},
    }
    run = fake_run([0.1, 0.11, 0.12, 0.5, None, None, None], columns=columns)
    counts = counts_of(run.scope, partition_of(run), settings_of(run))
    assert (counts.features, counts.scored, counts.unscored) == (7, 4, 3)
    assert (counts.low_cds, counts.high_cds) == (3, 1)
    assert (counts.silent, counts.vanishing, counts.low_cds_diffuse) == (1, 1, 1)


def test_quantiles_are_numpys():
    cds = np.random.default_rng(0).gamma(2.0, 0.05, 101)
    quantiles = quantiles_of(pl.DataFrame({"cds": [*cds.tolist(), None]}))
    assert [name for name, _ in quantiles] == ["minimum", "5 %", "25 %", "median", "75 %", "95 %", "maximum"]
    np.testing.assert_allclose([value for _, value in quantiles], np.quantile(cds, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]))
    assert quantiles_of(pl.DataFrame({"cds": [None]}, schema={"cds": pl.Float64})) == []


@pytest.mark.parametrize(
    "cds",
    [
        np.random.default_rng(0).gamma(2.0, 0.05, 200),
        np.concatenate(
            [np.random.default_rng(0).normal(0.1, 0.02, 90), np.random.default_rng(1).normal(0.4, 0.02, 90)]
        ),
        np.array([0.1, 0.3]),
    ],
    ids=["one mode", "two modes", "too few"],
)
def test_the_saved_partition_speaks_as_the_fresh_one(fake_run, cds):
    run = fake_run([*cds.tolist(), None])
    fresh, saved = partition(np.append(cds, np.nan)), partition_of(run)
    assert saved.sentence() == fresh.sentence()
    assert saved.evidence.mixture_sentence() == fresh.evidence.mixture_sentence()
    for name in ("low_cds", "high_cds", "unscored"):
        np.testing.assert_array_equal(getattr(saved, name), getattr(fresh, name))


def test_no_partition_without_scores(fake_run):
    assert partition_of(fake_run([None, None])) is None


@pytest.mark.parametrize(
    ("fvu", "word"), [(0.2499, "fits"), (0.25, "fits loosely"), (0.5, "does not fit"), (1.3, "does not fit")]
)
def test_fit_has_a_plain_word(fvu, word):
    found, sentence = fit_sentence(FitRecord(fvu, 32.0, 0.1, 100))
    assert found == word
    assert f"{100 * fvu:.1f} %" in sentence


@pytest.mark.parametrize(
    ("retained", "expected"),
    [
        (None, "too few pairs"),
        (0.21, None),
        (0.26, "outside the interval"),
        (0.09, "other side of the threshold"),
    ],
)
def test_retention_flag(retained, expected):
    row = {"cds": 0.2, "cds_retained": retained, "cds_ci_lower": 0.05, "cds_ci_upper": 0.25}
    flag = retention_flag(row, threshold=0.1)
    assert flag is None if expected is None else expected in flag


def test_retention_is_not_judged_by_an_interval_that_is_not_there():
    row = {"cds": 0.2, "cds_retained": 0.5, "cds_ci_lower": None, "cds_ci_upper": None}
    assert retention_flag(row, threshold=0.1) is None


def test_extremes_break_ties_by_feature_and_never_share_one():
    frame = pl.DataFrame({"feature": range(7), "cds": [0.3, 0.1, None, 0.3, 0.1, 0.2, 0.3]})
    local, rest = extremes(frame, 2)
    assert local["feature"].to_list() == [1, 4]
    assert rest["feature"].to_list() == [0, 3]
    local, rest = extremes(frame, 12)
    assert local["feature"].to_list() == [1, 4, 5]
    assert rest["feature"].to_list() == [0, 3, 6]
    assert [side.height for side in extremes(frame, 0)] == [0, 0]
