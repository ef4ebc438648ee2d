"""The columns that every table of removals has, and the summary of its ladders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import polars as pl

from infoscope.analyses.removal.ladder import NoFairControl
from infoscope.options import Side
from infoscope.runtime.columns import Column, declare, make_table

_SINCE = "0.1.0"
_SQUARE = "of the tokens' mean square about their mean"

ENERGY = {
    "energy": Column(
        pl.Float64,
        "squared norm",
        "removed energy: mean squared length of the vector that the removal takes out of a token, over a sample of at "
        "most 10,000 tokens; of reconstruct beyond what the reconstruction takes out; null where no sample was read",
        since=_SINCE,
    ),
    "energy_share": Column(pl.Float64, f"share {_SQUARE}", "removed energy, which may exceed 1", since=_SINCE),
}

CONTROL = {
    "control_of": Column(
        pl.String, "", "of a random set, the group that it is compared with; null elsewhere", since=_SINCE
    ),
    "overlap": Column(
        pl.Float64, "share, 0 to 1", "of a random set, the share of that group's features that it has", since=_SINCE
    ),
    "step": Column(
        pl.Float64, f"share {_SQUARE}", "of a set of a ladder, the removed energy that was wanted", since=_SINCE
    ),
    "side": Column(
        pl.String,
        "",
        "of a set of a ladder: subset of the group, or disjoint from it",
        choices=get_args(Side),
        since=_SINCE,
    ),
}

LADDER = declare(
    {
        "site": Column(pl.String, "", "where the edit acts: rerun or site"),
        "group": Column(pl.String, "", "the group that is compared", required=True),
        "step": Column(pl.Float64, f"share {_SQUARE}", "removed energy of the sets; null for the whole group"),
        "metric": Column(pl.String, "", "which score this row is"),
        "subset": Column(pl.Float64, "of the metric", "mean score without subsets of the group, or without all of it"),
        "subset_spread": Column(pl.Float64, "of the metric", "standard deviation over these sets"),
        "subset_features": Column(pl.Float64, "count", "features in these sets, mean"),
        "subset_energy": Column(pl.Float64, f"share {_SQUARE}", "removed energy of these sets, mean"),
        "disjoint": Column(pl.Float64, "of the metric", "mean score without sets disjoint from the group"),
        "disjoint_spread": Column(pl.Float64, "of the metric", "standard deviation over these sets"),
        "disjoint_features": Column(pl.Float64, "count", "features in these sets, mean"),
        "disjoint_energy": Column(pl.Float64, f"share {_SQUARE}", "removed energy of these sets, mean"),
        "difference": Column(
            pl.Float64, "of the metric", "score without a subset less that without the disjoint set of its draw, mean"
        ),
        "difference_spread": Column(pl.Float64, "of the metric", "standard deviation over these pairs"),
        "pairs": Column(pl.UInt32, "count", "pairs of a subset and a disjoint set"),
        "overlap": Column(
            pl.Float64,
            "share, 0 to 1",
            "of the whole group, the share of its features that its random groups of equal mass have; null elsewhere",
        ),
        "no_fair_control": Column(pl.String, "", "why the group is not compared at this step; null where it is"),
    }
)


def summarise_ladder(rows: pl.DataFrame, unfair: Sequence[NoFairControl]) -> pl.DataFrame:
    """What comes out on each group's ladder: one row a site, group, metric and step, the whole group first.

    Args:
        rows: one row a variant and metric: ``site``, ``name``, ``draw``, ``metric``, ``score``, ``features``, and the
            columns `ENERGY` and `CONTROL`.
        unfair: the steps that a group cannot be compared at.

    Returns:
        `LADDER`; no rows where no group has a ladder.

    Example:
        >>> row = {"site": "rerun", "metric": "top-1", "features": 3, "control_of": "global", "step": 0.05}
        >>> scores = {"subset": (0.5, 0.6), "disjoint": (0.7, 0.9)}
        >>> rows = [
        ...     row | {"name": side, "side": side, "draw": draw, "score": score, "energy_share": 0.05, "overlap": 0.0}
        ...     for side, pair in scores.items() for draw, score in enumerate(pair, 1)
        ... ]
        >>> unfair = NoFairControl("global", 0.4, "disjoint", 0.31, 0)
        >>> summary = summarise_ladder(pl.DataFrame(rows), [unfair])
        >>> summary.select("step", "subset", "disjoint", pl.col("difference").round(3)).rows()
        [(0.05, 0.55, 0.8, -0.25), (0.4, None, None, None)]
        >>> summary["no_fair_control"][1]
        'no fair control at 40%: sets disjoint from global come no nearer than 31.0%'
    """
    groups = rows.filter(pl.col("side").is_not_null())["control_of"].unique(maintain_order=True).to_list()
    groups += [each.group for each in unfair if each.group not in groups]
    summary = [
        row
        for (site, metric), of_metric in rows.group_by(["site", "metric"], maintain_order=True)
        for group in dict.fromkeys(groups)
        for row in _of_group(of_metric, {"site": site, "metric": metric, "group": group}, unfair)
    ]
    return make_table(LADDER, summary)


def _of_group(rows: pl.DataFrame, key: Mapping[str, Any], unfair: Sequence[NoFairControl]) -> Iterator[dict[str, Any]]:
    """The rows of one group under one metric at one site."""
    group = key["group"]
    whole = rows.filter(pl.col("control_of").is_null() & (pl.col("name") == f"minus {group}"))
    matched = rows.filter(
        (pl.col("control_of") == group)
        & pl.col("side").is_null()
        & pl.col("name").str.starts_with("minus random of equal mass as ")
    )
    if len(whole):
        first = whole.row(0, named=True)
        yield {
            **key,
            "subset": first["score"],
            "subset_features": first["features"],
            "subset_energy": first["energy_share"],
            "overlap": matched["overlap"].mean() if len(matched) else None,
        }
    missed = {
        each.step: [other for other in unfair if (other.group, other.step) == (group, each.step)] for each in unfair
    }
    sets = rows.filter((pl.col("control_of") == group) & pl.col("side").is_not_null())
    for step in sorted({*sets["step"].to_list(), *(step for step, reasons in missed.items() if reasons)}):
        if missed.get(step):
            yield {**key, "step": step, "no_fair_control": "; ".join(str(reason) for reason in missed[step])}
            continue
        at_step = sets.filter(pl.col("step") == step).sort("draw")
        sides = {side: at_step.filter(pl.col("side") == side) for side in get_args(Side)}
        scores = {side: of_side["score"].to_numpy() for side, of_side in sides.items()}
        pairs = min(len(values) for values in scores.values())
        difference = scores["subset"][:pairs] - scores["disjoint"][:pairs]
        row = {**key, "step": step, "pairs": pairs}
        row |= {"difference": _mean(difference), "difference_spread": _spread(difference)}
        for side, of_side in sides.items():
            row |= {
                side: _mean(scores[side]),
                f"{side}_spread": _spread(scores[side]),
                f"{side}_features": of_side["features"].mean(),
                f"{side}_energy": of_side["energy_share"].mean(),
            }
        yield row


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _spread(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
