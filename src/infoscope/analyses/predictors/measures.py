"""The measures of a feature that are compared, and the groups of features by each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from jaxtyping import Float64

from infoscope.analyses.predictors.names import BEYOND_COSINE, COSINE, MEASURES
from infoscope.analyses.predictors.ranks import left_over
from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.errors import InfoscopeError
from infoscope.runtime.run import Run


def read_measures(run: Run) -> dict[str, Float64[np.ndarray, " feature"]]:
    """The measures of a run's features, NaN where one is not defined.

    Raises:
        InfoscopeError: no feature has a CDS.
    """
    found: dict[str, np.ndarray] = {
        name: run.scope[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in MEASURES
    }
    if np.isnan(found["cds"]).all():
        raise InfoscopeError(f"{run.path} has no CDS of any feature: measure again, on more images")
    return found


def beyond(
    cds: Float64[np.ndarray, " feature"], other: Float64[np.ndarray, " feature"]
) -> Float64[np.ndarray, " feature"]:
    """The rank of CDS less what the rank of another measure says of it, over the features that have both; else NaN.

    Example:
        >>> beyond(np.array([0.1, 0.2, 0.3, np.nan]), np.array([1.0, 3.0, 2.0, 4.0])).round(2)
        array([-0.5, -0.5,  1. ,   nan])
    """
    both = ~np.isnan(cds) & ~np.isnan(other)
    found = np.full(len(cds), np.nan)
    found[both] = left_over(cds[both], other[both][:, None])
    return found


def quantile_groups(
    measures: Mapping[str, Float64[np.ndarray, " feature"]], name: str, count: int
) -> list[FeatureGroup]:
    """The features with a measure, in groups of equally many from the lowest values to the highest.

    Ties go by feature, so that groups are equally large.

    Args:
        measures: the run's measures.
        name: one of them, or `BEYOND_COSINE`.
        count: how many groups.

    Raises:
        InfoscopeError: fewer features have the measure than there are to be groups.

    Example:
        >>> groups = quantile_groups({"cds": np.array([0.3, np.nan, 0.1, 0.2, 0.4])}, "cds", 2)
        >>> [(group.name, group.features.tolist()) for group in groups]
        [('cds, 1 of 2', [2, 3]), ('cds, 2 of 2', [0, 4])]
    """
    values = beyond(measures["cds"], measures[COSINE]) if name == BEYOND_COSINE else measures[name]
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]  # NaN is sorted last
    if len(order) < count:
        raise InfoscopeError(f"{len(order)} features have a {name}, too few for {count} groups: lower --quantiles")
    parts = np.array_split(order, count)
    return [
        FeatureGroup(f"{name}, {number} of {count}", "rule", np.sort(part).astype(np.uint32))
        for number, part in enumerate(parts, 1)
    ]
