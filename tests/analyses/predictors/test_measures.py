"""Measures in full, in quantile groups and by half, and the options that name them."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from infoscope.analyses.predictors.config import BEYOND_COSINE, MEASURES, PredictorConfig
from infoscope.analyses.predictors.measures import (
    HALVES,
    NOT_BY_HALVES,
    MapOptions,
    half_of,
    measure_pairs,
    measures_by_half,
    quantile_groups,
    read_measures,
    read_pairs,
)
from infoscope.analyses.predictors.ranks import beyond
from infoscope.errors import InfoscopeError
from infoscope.runtime.partials import Partials
from infoscope.runtime.run import Run
from infoscope.scope.emd import emd_pairs
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import overlap_maps

RANDOM = np.random.default_rng(0)


def test_groups_are_equally_large_and_in_the_order_of_values():
    values = RANDOM.integers(0, 5, 42).astype(float)
    values[[3, 7]] = np.nan
    groups = quantile_groups({"density": values}, "density", 4)
    assert [len(group.features) for group in groups] == [10] * 4
    assert sorted(np.concatenate([group.features for group in groups])) == sorted(np.flatnonzero(~np.isnan(values)))
    for low, high in pairwise(groups):
        assert values[low.features].max() <= values[high.features].min()


def test_beyond_cosine_is_what_cosine_does_not_say():
    cosine = RANDOM.random(400)
    own = RANDOM.normal(size=400)
    cds = cosine + 0.1 * own
    left = beyond(cds, cosine)
    assert abs(np.corrcoef(left, np.argsort(np.argsort(cosine)))[0, 1]) < 1e-9
    assert np.corrcoef(left, own)[0, 1] > 0.8
    lowest, *_, highest = quantile_groups({"cds": cds, "cosine_distance": cosine}, BEYOND_COSINE, 4)
    assert own[lowest.features].mean() < -0.5 < 0.5 < own[highest.features].mean()
    assert abs(cosine[lowest.features].mean() - cosine[highest.features].mean()) < 0.1


def test_a_run_without_scores_is_refused_and_one_without_another_measure_is_not(tmp_path):
    run = object.__new__(Run)  # its table alone is asked for
    object.__setattr__(run, "path", tmp_path)
    table = {name: [0.5, None] for name in MEASURES} | {"moran": [None, None]}
    object.__setattr__(run, "scope", pl.DataFrame(table, schema_overrides=dict.fromkeys(MEASURES, pl.Float64)))
    assert np.isnan(read_measures(run)["moran"]).all()
    object.__setattr__(run, "scope", run.scope.with_columns(cds=None))
    with pytest.raises(InfoscopeError, match="has no CDS of any feature: measure again"):
        read_measures(run)


def test_too_few_features_are_refused():
    with pytest.raises(InfoscopeError, match="2 features have a cds, too few for 4 groups: lower --quantiles"):
        quantile_groups({"cds": np.array([0.1, 0.2, np.nan])}, "cds", 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_by": ("scope",)}, "--group-by scope: choose cds, "),
        ({"group_by": ()}, "one measure or more"),
        ({"group_by": ("cds", "cds")}, "each once"),
        ({"quantiles": 1}, "--quantiles 1"),
        ({"steps": (0.2, 0.1)}, "--steps 0.2 0.1: give shares above 0"),
        ({"draws": 1}, "--draws 1"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(InfoscopeError, match=message):
        PredictorConfig(**options)


def chunk_of(run):
    return range(run.manifest.dictionary.features)


def test_all_pairs_give_the_measures_of_the_run(probed_run):
    every = chunk_of(probed_run)
    found = measure_pairs(read_pairs(probed_run, every), every, MapOptions.of(probed_run))
    assert set(found) == set(MEASURES) - set(NOT_BY_HALVES)
    for name, values in found.items():
        column = probed_run.scope[name].cast(pl.Float64).to_numpy()
        assert np.array_equal(np.isnan(values), np.isnan(column)), name
        assert np.isfinite(values).any()
        assert np.nanmax(np.abs(values - column)) < 1e-12, name


def test_the_halves_of_cds_are_those_of_the_run(probed_run):
    halves = measures_by_half(probed_run)
    for half in HALVES:
        column = probed_run.scope[f"cds_{half}"].cast(pl.Float64).to_numpy()
        assert np.isfinite(column).any()
        assert halves[half]["cds"] == pytest.approx(column, nan_ok=True, abs=1e-12)


def test_a_half_is_calibrated_by_its_own_pairs_alone(probed_run):
    every, options = chunk_of(probed_run), MapOptions.of(probed_run)
    pairs, side = read_pairs(probed_run, every), options.grid - options.shift
    distances = patch_distances(side)
    first, second = overlap_maps(pairs.first, pairs.second, options.grid, options.shift)
    found = measures_by_half(probed_run)["odd"]["cds_calibrated"]
    feature = int(np.flatnonzero(~np.isnan(found))[0])
    own = np.flatnonzero((pairs.feature == feature) & (pairs.rank % 2 == 1) & (first.mass() > 0) & (second.mass() > 0))
    emd = emd_pairs(first.take(own), second.take(own), distances).mean()
    null = emd_pairs(first.take(own), second.take(np.roll(own, -1)), distances).mean()
    assert len(own) >= 2
    assert found[feature] == pytest.approx(emd / null)


def test_finished_chunks_are_read_again(probed_run, tmp_path):
    before = measures_by_half(probed_run, tmp_path)
    [name] = Partials(tmp_path).names()
    arrays = Partials(tmp_path).read(name)
    Partials(tmp_path).put(name, arrays | {"even-cds": np.full_like(arrays["even-cds"], 0.25)})
    after = measures_by_half(probed_run, tmp_path)
    assert np.array_equal(before["odd"]["cds"], after["odd"]["cds"], equal_nan=True)
    assert (after["even"]["cds"] == 0.25).all()


def test_a_half_needs_half_of_the_pairs():
    options = MapOptions(16, 2, "euclidean", "leave-out", 0.0, 5)
    assert half_of(options).min_pairs == 3
