"""What CDS adds, and what of a removed set tells its effect, on measures and sets whose answer is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from infoscope.analyses.predictors.config import MEASURES
from infoscope.analyses.predictors.relations import (
    ALL_OTHERS,
    POOLED,
    additions,
    correlations,
    mean_ranks,
    relate_sets,
    reliabilities,
)

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


RANDOM = np.random.default_rng(0)


def test_mean_ranks_worked_by_hand():
    measures = dict.fromkeys(MEASURES, np.array([3.0, 1.0, 2.0, np.nan])) | {"moran": np.array([1.0, 1.0, 2.0, 2.0])}
    found = mean_ranks(measures, [np.array([0, 1, 3]), np.array([2])])
    assert found["cds"].tolist() == [0.5, 0.5]
    assert found["moran"] == pytest.approx([(1 / 6 + 1 / 6 + 5 / 6) / 3, 5 / 6])


def test_a_measure_that_acts_through_the_pooled_energy_alone_is_told_from_one_that_acts_itself():
    sets = 3000
    pooled, itself = RANDOM.normal(size=(2, sets))
    ranks = {"cds": pooled + RANDOM.normal(size=sets), "density": itself}
    score = pooled + itself + RANDOM.normal(size=sets)
    rows = {row["predictor"]: row for row in relate_sets(ranks, pooled, score)}
    assert rows[POOLED]["partial"] is None
    assert rows["cds"]["spearman"] == pytest.approx(spearmanr(ranks["cds"], score)[0])
    assert rows["cds"]["spearman"] > 0.3 > 0.06 > abs(rows["cds"]["partial"])
    assert rows["density"]["partial"] > 0.5
