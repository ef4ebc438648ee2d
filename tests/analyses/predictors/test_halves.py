"""Measures by half, against the run's own tables and against maps that are cut in two by hand."""

import numpy as np
import polars as pl
import pytest

from infoscope.analyses.predictors.halves import (
    HALVES,
    NOT_BY_HALVES,
    MapOptions,
    half_of,
    measure_pairs,
    measures_by_half,
    read_pairs,
)
from infoscope.analyses.predictors.names import MEASURES
from infoscope.runtime.partials import Partials
from infoscope.scope.emd import emd_pairs
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import overlap_maps


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
