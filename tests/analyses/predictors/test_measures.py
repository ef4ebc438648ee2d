"""Quantile groups of measures, and the options that name them."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from infoscope.analyses.predictors.config import PredictorConfig
from infoscope.analyses.predictors.measures import beyond, quantile_groups, read_measures
from infoscope.analyses.predictors.names import BEYOND_COSINE, MEASURES
from infoscope.errors import InfoscopeError
from infoscope.runtime.run import Run

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
