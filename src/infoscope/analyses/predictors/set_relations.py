"""What of a removed set tells its effect: its features' measures, or what it takes out of the mean patch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.stats import rankdata

from infoscope.analyses.predictors.names import MEASURES
from infoscope.analyses.predictors.ranks import partial_spearman
from infoscope.scope.reliability import spearman

POOLED = "pooled_share"

Values = Float64[np.ndarray, " set"]


def mean_ranks(
    measures: Mapping[str, Float64[np.ndarray, " feature"]], sets: Sequence[np.ndarray]
) -> dict[str, Float64[np.ndarray, " set"]]:
    """The mean rank of the features of each set by each measure, 0 for the lowest and 1 for the highest feature.

    Features without the measure do not count; NaN where none of a set has it.

    Args:
        measures: the run's measures.
        sets: the features of each set.

    Example:
        >>> values = dict.fromkeys(MEASURES, np.array([5.0, np.nan, 7.0, 9.0]))
        >>> mean_ranks(values, [np.array([0, 1, 2]), np.array([1])])["cds"].tolist()
        [0.25, nan]
    """
    found = {}
    for name in MEASURES:
        values = measures[name]
        known = ~np.isnan(values)
        rank = np.full(len(values), np.nan)
        rank[known] = (rankdata(values[known]) - 1) / max(known.sum() - 1, 1)
        found[name] = np.array([_mean(rank[features]) for features in sets])
    return found


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def relate_sets(ranks: Mapping[str, Values], pooled: Values, score: Values) -> Iterator[dict[str, Any]]:
    """How the score without a set goes with its features' measures, over sets of equal removed energy.

    Args:
        ranks: what `mean_ranks` gives.
        pooled: what each set takes out of the mean patch.
        score: the score without it.

    Yields:
        For `POOLED` and each measure: ``predictor``, ``sets``, ``spearman``, and ``partial``, the rank correlation at
        equal ``pooled``.
    """
    for name, values in {POOLED: pooled, **ranks}.items():
        known = ~np.isnan(values)
        own, given = values[known], pooled[known][:, None]
        yield {
            "predictor": name,
            "sets": int(known.sum()),
            "spearman": spearman(own, score[known]),
            "partial": None if name == POOLED or known.sum() < 3 else partial_spearman(own, score[known], given),
        }
