"""What CDS adds, on measures whose answer is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from infoscope.analyses.predictors.names import MEASURES
from infoscope.analyses.predictors.relations import ALL_OTHERS, additions, correlations, reliabilities

FEATURES = 2000


def made(own, noise, random):
    """CDS is 1 - cosine, plus something of its own, plus noise of the half; the other measures say nothing."""
    measures = {name: random.normal(size=FEATURES) for name in MEASURES}
    halves = {half: {name: random.normal(size=FEATURES) for name in MEASURES} for half in ("even", "odd")}
    change, itself = random.normal(size=FEATURES), random.normal(size=FEATURES)
    for table in (measures, *halves.values()):
        table["cosine_distance"] = change
        table["cds"] = change + own * itself + noise * random.normal(size=FEATURES)
    return measures, halves


def of_all(rows):
    return {row["by"]: row for row in rows if row["features_of"] == "all"}


def test_a_cds_that_only_repeats_the_change_adds_nothing():
    rows = of_all(additions(*made(0.0, 0.5, np.random.default_rng(0)), ["a"] * FEATURES))
    # r squared is 0.8, and of normal variables Spearman's is (6 / pi) arcsin(r / 2).
    expected = (6 / np.pi * np.arcsin(np.sqrt(0.8) / 2)) ** 2
    assert rows["cosine_distance"]["explained"] == pytest.approx(expected, abs=0.03)
    assert rows[ALL_OTHERS]["explained"] == pytest.approx(expected, abs=0.03)
    assert rows[ALL_OTHERS]["left_reliability"] < 0.15
    assert rows[ALL_OTHERS]["adds"] < 0.03
    assert abs(rows["moran"]["partial"]) < 0.1
    assert rows["cosine_distance"]["partial"] > 0.8


def test_a_cds_with_something_of_its_own_adds_just_that():
    rows = of_all(additions(*made(0.5, 0.01, np.random.default_rng(1)), ["a"] * FEATURES))
    assert rows[ALL_OTHERS]["explained"] == pytest.approx(0.785, abs=0.03)
    assert rows[ALL_OTHERS]["left_reliability"] > 0.95
    assert rows[ALL_OTHERS]["adds"] == pytest.approx(0.215, abs=0.03)


def test_parts_are_classes_of_any_name_and_quarters_and_small_ones_are_left_out():
    classes = ["odd name"] * 1900 + ["rare"] * 60 + [None] * 40
    rows = additions(*made(0.5, 0.1, np.random.default_rng(2)), classes)
    counts = {row["features_of"]: row["features"] for row in rows}
    assert counts["class odd name"] == 1900
    assert "class rare" not in counts
    assert counts["density, 4 of 4"] == 500


def test_features_without_a_half_are_left_out():
    measures, halves = made(0.5, 0.1, np.random.default_rng(3))
    halves["odd"]["cds"][:100] = np.nan
    assert of_all(additions(measures, halves, ["a"] * FEATURES))[ALL_OTHERS]["features"] == FEATURES - 100
    found = {row["measure"]: row for row in reliabilities(halves)}
    assert found["cds"]["features"] == FEATURES - 100
    r = spearmanr(halves["even"]["cds"][100:], halves["odd"]["cds"][100:])[0]
    assert found["cds"]["halves"] == pytest.approx(r)
    assert found["cds"]["reliability"] == pytest.approx(2 * r / (1 + r))


def test_correlations_are_scipys_over_the_features_that_have_both():
    measures, _ = made(0.5, 0.1, np.random.default_rng(4))
    measures["moran"][:10] = np.nan
    rows = {(row["first"], row["second"]): row for row in correlations(measures)}
    assert len(rows) == len(MEASURES) * (len(MEASURES) - 1) // 2
    row = rows["cds", "moran"]
    assert row["features"] == FEATURES - 10
    assert row["spearman"] == pytest.approx(spearmanr(measures["cds"][10:], measures["moran"][10:])[0])
