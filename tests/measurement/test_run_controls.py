"""What the columns of a run say together."""

import json

import numpy as np
import polars as pl
import pytest
from scipy import stats

from infoscope.measurement.controls import run_controls
from infoscope.runtime.schema import SCOPE


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
    assert found.classes == {"local": 30, "diffuse": 0, "position-bound": 0, "global": 20, "undefined": 1}
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
    assert (document["class_rules"]["staying"], document["class_rules"]["away"]) == (0.6, 0.4)


def test_a_run_without_scores():
    found = run_controls(table(2, scope_class=["undefined"] * 2, trust=[0.0, 0.0]), {"top_images": 16})
    assert found.classes["undefined"] == 2
    assert (found.calibrated, found.trust, found.disagreeing) == ({}, {}, 0)
    assert json.dumps(found.to_json(), allow_nan=False)
