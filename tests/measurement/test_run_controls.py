"""What the columns of a run say together."""

import json

import numpy as np
import polars as pl
import pytest
from scipy import stats

from infoscope.measurement.controls import run_controls
from infoscope.options import RULE_VERSIONS
from infoscope.runtime.schema import SCOPE
from infoscope.scope.classes import CLASSES


def table(rows: int, **columns: list) -> pl.DataFrame:
    """A scope table with these columns; the others are null."""
    return pl.DataFrame(
        {name: columns.get(name, [None] * rows) for name in SCOPE},
        schema={name: column.dtype for name, column in SCOPE.items()},
    )


def test_from_the_columns():
    rng = np.random.default_rng(0)
    cds, even, odd = rng.random((3, 50))
    odd = even + odd  # halves of one score agree
    frame = table(
        51,
        cds=[*cds, None],
        cds_even=[*even, 0.5],
        cds_odd=[*odd, None],
        cds_calibrated=[*(2 * cds), None],
        cds_by_k=[[None, one, whole] for one, whole in zip(even, cds, strict=True)] + [[0.1, None, None]],
        cds_by_floor=[[one, None, None] for one in odd[:20]] + [[None] * 3] * 31,
        retained_disagrees=[True, True, False] + [None] * 48,
        scope_class=["local"] * 30 + ["global"] * 20 + ["undefined"],
        trust=[0.5] * 50 + [0.0],
    )
    found = run_controls(frame, {"top_images": 3})
    assert {name: count for name, count in found.classes.items() if count} == {
        "local": 30,
        "global": 20,
        "undefined": 1,
    }
    assert tuple(found.classes) == CLASSES
    assert found.calibrated[0.5] == pytest.approx(np.median(2 * cds))
    assert set(found.trust.values()) == {0.5}
    r = stats.spearmanr(even, odd).statistic
    assert found.reliability.spearman == pytest.approx(2 * r / (1 + r))
    assert found.disagreeing == 2
    assert list(found.by_k) == [1, 2, 3]
    assert found.by_k[1].features == 0
    assert found.by_k[2].spearman == pytest.approx(stats.spearmanr(even, cds).statistic)
    assert (found.by_k[3].features, round(found.by_k[3].spearman, 12)) == (50, 1.0)
    assert found.by_floor[0.1].features == 20
    assert found.by_floor[0.5].features == 0
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["by_k"][0] == {"k": 1, "features": 0, "mean": None, "cds_mean": None, "spearman": None}
    assert document["by_floor"][0]["floor"] == 0.1
    assert document["rule_version"] == RULE_VERSIONS["posterior"]
    assert (document["class_rules"]["level"], document["trust_rules"]) == (0.9, None)
    older = run_controls(frame, {"top_images": 3}, rule_version=1).to_json()
    assert (older["rule_version"], older["expected_false"]) == (1, {})
    assert (older["class_rules"]["staying"], older["class_rules"]["away"]) == (0.6, 0.4)
    assert older["trust_rules"] is not None


def test_the_expected_false_share_is_the_mean_of_one_less_the_posterior_of_its_own_class():
    frame = table(
        5,
        scope_class=["local", "local", "mixed", "unsettled", "undefined"],
        posterior_local=[0.95, 0.91, 0.02, 0.5, None],
        posterior_mixed=[0.01, 0.05, 0.98, 0.4, None],
        trust=[0.9, 0.7, 0.8, None, None],
    )
    found = run_controls(frame, {"top_images": 4})
    assert found.expected_false == pytest.approx({"local": 0.07, "mixed": 0.02})
    assert found.trust[0.5] == pytest.approx(0.8)
    by_name = {each.name: each for each in found.shares()}
    assert by_name["local"].sentence() == "2 local (40.0%, expected false 7.0%)"
    assert by_name["unsettled"].sentence() == "1 unsettled"
    assert by_name["global"].expected_false is None


def test_unsettled_is_a_judgement_and_no_finding():
    """What one half settles and the other does not is not given again; that both leave a feature open is no class."""
    even = ["local"] * 10 + ["unsettled"] * 6 + ["global", "undefined", "undefined"]
    odd = ["local"] * 5 + ["unsettled"] * 5 + ["local"] * 6 + ["global", "local", "undefined"]
    found = run_controls(table(19, class_even=even, class_odd=odd, scope_class=["local"] * 19), {"top_images": 4})
    # What neither half can judge is left out; what one can and the other cannot is not given again.
    assert found.repeatability.features == 18
    assert found.repeatability.positive["local"] == pytest.approx(5 / ((10 + 12) / 2))
    assert found.repeatability.positive["unsettled"] == 0
    assert found.not_repeatable == {"local"}
    assert [each.name for each in found.shares() if not each.repeatable] == ["local"]


def test_a_run_without_scores():
    found = run_controls(table(2, scope_class=["undefined"] * 2, trust=[0.0, 0.0]), {"top_images": 16})
    assert found.classes["undefined"] == 2
    assert (found.calibrated, found.trust, found.disagreeing) == ({}, {}, 0)
    assert json.dumps(found.to_json(), allow_nan=False)


def test_a_class_that_neither_half_gives_is_not_repeatable():
    halves = ["local"] * 20 + ["unsettled"] * 30
    frame = table(50, class_even=halves, class_odd=halves, scope_class=["local"] * 20 + ["global"] * 30)
    found = run_controls(frame, {"top_images": 4})
    assert np.isnan(found.repeatability.positive["global"])
    assert found.not_repeatable == {"global"}
    nobody = table(20, class_even=halves[:20], class_odd=halves[:20], scope_class=["local"] * 20)
    assert run_controls(nobody, {"top_images": 4}).not_repeatable == set()
