"""The summary of a ladder, worked by hand."""

import numpy as np
import polars as pl
import pytest

from infoscope.analyses.removal.columns import CONTROL, ENERGY, LADDER, summarise_ladder
from infoscope.analyses.removal.ladder import NoFairControl
from infoscope.runtime.columns import Column, declare, make_table, types_of

ROWS = declare(
    {
        "site": Column(pl.String, "", ""),
        "name": Column(pl.String, "", ""),
        "draw": Column(pl.UInt32, "", ""),
        "features": Column(pl.UInt32, "", ""),
        "metric": Column(pl.String, "", ""),
        "score": Column(pl.Float64, "", ""),
        **ENERGY,
        **CONTROL,
    }
)


def rows_of(site="rerun", lost=0.0):
    """One group at 5 %, 10 % and, out of reach, 40 %."""
    rows = [
        {"name": "untouched", "score": 0.9, "features": 0},
        {"name": "minus local", "score": 0.4, "features": 30, "energy_share": 0.5},
    ]
    rows += [
        {"name": "minus random of equal mass as local", "draw": draw, "score": 0.5, "control_of": "local"}
        | {"overlap": overlap}
        for draw, overlap in ((1, 0.7), (2, 0.8))
    ]
    rows += [
        {"name": "minus random of equal size as local", "draw": 1, "score": 0.5, "control_of": "local", "overlap": 0.1}
    ]
    for step, subsets, disjoint in ((0.1, (0.6, 0.7), (0.8, 0.8)), (0.05, (0.7, 0.75, 0.8), (0.85, 0.8))):
        for side, scores in (("subset", subsets), ("disjoint", disjoint)):
            rows += [
                {"name": f"minus {step:.0%} {side} local", "draw": draw, "score": score - lost, "features": 3 + draw}
                | {"control_of": "local", "step": step, "side": side, "energy_share": step, "overlap": 0.0}
                for draw, score in enumerate(scores, 1)
            ]
    return [{"site": site, "metric": "top-1"} | row for row in rows]


UNFAIR = [NoFairControl("local", 0.4, "disjoint", 0.31, 0)]


def test_both_sides_and_their_paired_difference():
    found = summarise_ladder(make_table(ROWS, rows_of() + rows_of("site", 0.1)), UNFAIR)
    assert dict(found.schema) == types_of(LADDER)
    assert found["site"].to_list() == ["rerun"] * 4 + ["site"] * 4
    whole, low, high, out_of_reach = found.to_dicts()[:4]
    assert (whole["step"], whole["subset"], whole["subset_features"], whole["subset_energy"]) == (None, 0.4, 30, 0.5)
    assert whole["overlap"] == pytest.approx(0.75)  # of equal mass alone
    assert (low["step"], high["step"], out_of_reach["step"]) == (0.05, 0.1, 0.4)
    # Three subsets and two disjoint sets are two pairs.
    assert (low["pairs"], low["subset"], low["disjoint"]) == (2, pytest.approx(0.75), pytest.approx(0.825))
    assert low["subset_spread"] == pytest.approx(0.05)
    assert low["difference"] == pytest.approx(np.mean([0.7 - 0.85, 0.75 - 0.8]))
    assert low["difference_spread"] == pytest.approx(np.std([-0.15, -0.05], ddof=1))
    assert (low["subset_features"], low["disjoint_features"], low["overlap"]) == (5, 4.5, None)
    assert high["difference"] == pytest.approx(-0.15)
    assert out_of_reach["subset"] is None
    assert out_of_reach["no_fair_control"] == (
        "no fair control at 40%: sets disjoint from local come no nearer than 31.0%"
    )
    assert found["subset"][5] == pytest.approx(0.65)


def test_without_a_ladder_there_is_no_summary():
    rows = make_table(ROWS, [row for row in rows_of() if "step" not in row])
    assert summarise_ladder(rows, []).is_empty()
    assert summarise_ladder(rows, UNFAIR)["step"].to_list() == [None, 0.4]
