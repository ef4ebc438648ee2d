"""Agreement between two judgements, against scikit-learn and the published formulas."""

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from infoscope.scope.reliability import class_agreement

CLASSES = ["local", "diffuse", "position-bound", "global"]


def judged(seed, count=400):
    random = np.random.default_rng(seed)
    first = random.choice(CLASSES, count, p=[0.7, 0.05, 0.05, 0.2])
    second = np.where(random.random(count) < 0.6, first, random.choice(CLASSES, count))
    return first.tolist(), second.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_scikit_learns(seed):
    first, second = judged(seed)
    found = class_agreement(first, second, CLASSES)
    assert found.kappa == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert found.agreement == pytest.approx(np.mean([one == other for one, other in zip(first, second, strict=True)]))
    assert found.features == len(first)


def test_ac1_by_gwets_formula():
    # 118 of 125 agree, nearly all on one class: kappa says nothing, AC1 nearly everything.
    first = ["local"] * 118 + ["local"] * 5 + ["global"] * 2
    second = ["local"] * 118 + ["global"] * 5 + ["local"] * 2
    found = class_agreement(first, second, ["local", "global"])
    share = (123 + 120) / 2 / 125
    chance = 2 * share * (1 - share)
    assert found.ac1 == pytest.approx((118 / 125 - chance) / (1 - chance))
    assert found.ac1 > 0.9
    assert found.kappa < 0


def test_positive_agreement_by_hand():
    found = class_agreement(["local", "local", "global", "global"], ["local", "global", "global", "local"], CLASSES)
    assert found.positive["local"] == found.positive["global"] == 0.5
    assert math.isnan(found.positive["diffuse"])


def test_features_that_a_judgement_leaves_open_do_not_count():
    found = class_agreement(["local", "undefined", None], ["local", "local", "local"], CLASSES)
    assert (found.features, found.agreement) == (1, 1.0)
    assert math.isnan(found.kappa)
    assert math.isnan(found.ac1)
    none = class_agreement(["undefined"], ["undefined"], CLASSES)
    assert none.features == 0
    assert math.isnan(none.agreement)
