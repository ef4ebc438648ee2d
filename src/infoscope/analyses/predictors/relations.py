"""How measures go together, how far each repeats, what CDS says beyond others, and what tells a removal's effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import rankdata

from infoscope.analyses.predictors.config import COSINE, MEASURES, OTHERS
from infoscope.analyses.predictors.measures import HALVES, Measures
from infoscope.analyses.predictors.ranks import explained_share, left_over, partial_spearman
from infoscope.scope.reliability import spearman, split_half

# Our choice: ten for each of the seven measures that are fitted. With fewer, a fit explains ranks by chance.
LEAST_FEATURES = 70
ALL_OTHERS = "all others"
EVERYWHERE = "all"
# Where what CDS adds is looked for, beside the classes: the quarters of breadth, of change and of frequency.
WHERE = ("effective_area", COSINE, "density")
PARTS = 4

POOLED = "pooled_share"

Rows = list[dict[str, Any]]
Values = Float64[np.ndarray, " set"]


def correlations(measures: Measures) -> Rows:
    """Spearman's correlation of each two measures, over the features that have both.

    Example:
        >>> values = {name: np.arange(4.0) for name in MEASURES} | {"cds": np.array([0.0, 2.0, 1.0, np.nan])}
        >>> correlations(values)[0]
        {'first': 'cds', 'second': 'cds_calibrated', 'features': 3, 'spearman': 0.5}
    """
    rows = []
    for first, second in combinations(MEASURES, 2):
        both = ~np.isnan(measures[first]) & ~np.isnan(measures[second])
        value = spearman(measures[first][both], measures[second][both])
        rows.append({"first": first, "second": second, "features": int(both.sum()), "spearman": value})
    return rows


def reliabilities(halves: Mapping[str, Measures]) -> Rows:
    """How far each measure repeats between halves of a feature's images; a measure without halves has no row.

    Args:
        halves: the measures by half, as `measures_by_half` gives them.
    """
    even, odd = (halves[half] for half in HALVES)
    rows = []
    for name in MEASURES:
        if name in even:
            both = ~np.isnan(even[name]) & ~np.isnan(odd[name])
            rows.append(
                {
                    "measure": name,
                    "features": int(both.sum()),
                    "halves": spearman(even[name][both], odd[name][both]),
                    "reliability": split_half(even[name], odd[name]).spearman,
                }
            )
    return rows


def additions(measures: Measures, halves: Mapping[str, Measures], classes: Sequence[str | None]) -> Rows:
    """What each other measure, and all of them together, explain of CDS, and whether what is left repeats.

    It is asked of all features and of parts of them: each class, and the quarters of some measures. A part is left out
    with fewer than `LEAST_FEATURES` features that have every measure in full and in both halves. `MADE_OF_CDS` is not
    among the others, since it would explain CDS by definition.

    Args:
        measures: the run's measures.
        halves: the same by half.
        classes: each feature's class.
    """
    complete = _complete([measures, *halves.values()])
    rows: Rows = []
    for where, part in _parts(measures, classes, complete).items():
        if part.sum() < LEAST_FEATURES:
            continue
        cds = measures["cds"][part]
        by_half = [{name: _half(half, measures, name)[part] for name in ("cds", *OTHERS)} for half in halves.values()]
        repeats = split_half(*(half["cds"] for half in by_half)).spearman
        for by, names in {**{name: (name,) for name in OTHERS}, ALL_OTHERS: OTHERS}.items():
            given = _beside(measures, names, part)
            left = [left_over(half["cds"], np.stack([half[name] for name in names], axis=1)) for half in by_half]
            left_repeats = split_half(*left).spearman
            explained = explained_share(cds, given)
            rest = [name for name in OTHERS if name != by]
            rows.append(
                {
                    "features_of": where,
                    "by": by,
                    "features": int(part.sum()),
                    "explained": explained,
                    "partial": None
                    if by == ALL_OTHERS
                    else partial_spearman(cds, measures[by][part], _beside(measures, rest, part)),
                    "cds_reliability": repeats,
                    "left_reliability": left_repeats,
                    "adds": (1.0 - explained) * max(left_repeats, 0.0),
                }
            )
    return rows


def _half(half: Measures, measures: Measures, name: str) -> Float64[np.ndarray, " feature"]:
    """A measure by half of the images; by all of them where it is not known by half."""
    return half[name] if name in half else measures[name]


def _beside(
    measures: Measures, names: Sequence[str], part: Bool[np.ndarray, " feature"]
) -> Float64[np.ndarray, "part measure"]:
    return np.stack([measures[name][part] for name in names], axis=1)


def _complete(tables: Sequence[Measures]) -> Bool[np.ndarray, " feature"]:
    """The features that have CDS and all others in every table."""
    known = [~np.isnan(table[name]) for table in tables for name in ("cds", *OTHERS) if name in table]
    found: Bool[np.ndarray, " feature"] = np.logical_and.reduce(known)
    return found


def _parts(
    measures: Measures, classes: Sequence[str | None], complete: Bool[np.ndarray, " feature"]
) -> dict[str, Bool[np.ndarray, " feature"]]:
    """The features of each part that is looked at, by its name."""
    parts = {EVERYWHERE: complete}
    named = np.array(classes, dtype=object)
    for name in dict.fromkeys(name for name in classes if name is not None):
        parts[f"class {name}"] = complete & (named == name)
    at = np.flatnonzero(complete)
    for name in WHERE:
        order = at[np.argsort(measures[name][at], kind="stable")]
        for number, members in enumerate(np.array_split(order, PARTS), 1):
            part = np.zeros(len(complete), np.bool_)
            part[members] = True
            parts[f"{name}, {number} of {PARTS}"] = part
    return parts


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
