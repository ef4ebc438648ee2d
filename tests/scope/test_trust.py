"""Each factor of trust by itself: it lowers the number by what the rule says, and is named."""

from dataclasses import replace

import numpy as np
import pytest

from drawn_maps import judged, planted_pairs
from infoscope.scope.geometry import Geometry
from infoscope.scope.trust import judge_trust

GEOMETRY = Geometry(14, 2)


@pytest.fixture(scope="module")
def feature():
    """One local feature without noise, all of its pairs kept."""
    scores, controls, moves, names, _ = judged(planted_pairs("blob near the centre", 1, noise=0.0), 14, 2, 16)
    assert names == ["local"]
    clean = {
        "pairs": np.array([16], np.uint32),
        "retention": np.array([0.9]),
        "cds": np.array([0.02]),
        "cds_ci_lower": np.array([0.02]),
        "cds_ci_upper": np.array([0.02]),
    }
    return (
        replace(scores, **clean),
        replace(controls, retained_disagrees=np.zeros(1)),
        replace(moves, judged=np.array([14], np.uint32)),
    )


def trust(feature, name="local", fvu=0.1, reliability=1.0, **changes):
    scores, controls, moves = feature
    ours = {key: value for key, value in changes.items() if hasattr(scores, key)}
    theirs = {key: value for key, value in changes.items() if not hasattr(scores, key)}
    scores, controls = replace(scores, **ours), replace(controls, **theirs)
    found = judge_trust([name], scores, controls, moves, GEOMETRY, 16, fvu, reliability)
    return float(found.value[0]), found.reasons[0]


def test_nothing_speaks_against_it(feature):
    assert trust(feature) == (1.0, "nothing lowers it")


@pytest.mark.parametrize(
    ("changes", "value", "reason"),
    [
        ({"fvu": 0.5}, 0.5, "fit 0.50 (FVU 0.50)"),
        ({"fvu": 0.8}, 0.0, "fit 0.00 (FVU 0.80)"),
        ({"fvu": None}, 0.5, "fit 0.50 (FVU not known)"),
        ({"reliability": 0.7}, 0.7, "reliability 0.70 (between halves of the top images)"),
        ({"reliability": -0.3}, 0.0, "reliability 0.00 (between halves of the top images)"),
        ({"reliability": float("nan")}, 0.5, "reliability 0.50 (not known)"),
        ({"pairs": np.array([12], np.uint32)}, 0.75, "pairs 0.75 (12 of 16)"),
        ({"retention": np.array([0.25])}, 0.5, "retention 0.50 (0.25 of the peak kept)"),
        ({"retention": np.array([np.nan])}, 0.5, "retention 0.50 (not known)"),
        ({"cds_ci_upper": np.array([np.nan])}, 0.5, "interval 0.50 (not known)"),
        (
            {"retained_disagrees": np.ones(1)},
            0.5,
            "retention 0.50 (0.90 of the peak kept, and without the pairs that lose it the score is another)",
        ),
        (
            {"cds_ci_upper": np.array([0.02 + GEOMETRY.unrelated])},
            0.5,
            f"interval 0.50 (plus or minus {GEOMETRY.unrelated / 2:.3f})",
        ),
        ({"name": "undefined"}, 0.0, "no class"),
    ],
)
def test_each_factor(feature, changes, value, reason):
    found = trust(feature, **changes)
    assert found[0] == pytest.approx(value)
    assert found[1] == reason


def test_factors_multiply_and_the_lowest_comes_first(feature):
    value, reason = trust(feature, fvu=0.5, pairs=np.array([8], np.uint32), reliability=0.2)
    assert value == pytest.approx(0.5 * 0.5 * 0.2)
    assert [part.split()[0] for part in reason.split("; ")] == ["reliability", "fit", "pairs"]


def test_a_position_bound_feature_needs_no_overlap(feature):
    without = {name: np.array([np.nan]) for name in ("cds", "cds_ci_lower", "cds_ci_upper", "retention")}
    value, reason = trust(feature, name="position-bound", pairs=np.array([0], np.uint32), **without)
    assert value == pytest.approx(14 / 16)
    assert reason == "pairs 0.88 (14 of 16)"


def test_a_global_feature_without_a_score_is_judged_by_its_whole_maps(feature):
    """Its interval is not known, which counts as a half; that little of the peak is kept does not concern it."""
    without = {name: np.array([np.nan]) for name in ("cds", "cds_ci_lower", "cds_ci_upper")}
    value, reason = trust(feature, name="global", pairs=np.array([2], np.uint32), retention=np.array([0.1]), **without)
    assert value == pytest.approx(0.5 * 14 / 16)
    assert reason == "interval 0.50 (not known); pairs 0.88 (14 of 16)"
