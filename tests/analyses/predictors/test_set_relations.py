"""What of a removed set tells its effect, on sets whose effect is made."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from infoscope.analyses.predictors.names import MEASURES
from infoscope.analyses.predictors.set_relations import POOLED, mean_ranks, relate_sets

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
