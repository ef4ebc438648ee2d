"""Figures against hand-counted ones and exhaustive search."""

from itertools import permutations

import numpy as np
import pytest

from infoscope.analyses.validation.cases import COLUMNS, balanced_accuracy, confusion, match_directions, scope_auc

KINDS = ["local"] * 4 + ["global"] * 2 + ["diffuse", "position-bound"]


def test_auc_is_the_share_of_pairs_in_order():
    score = np.array([0.1, 0.2, 0.3, np.nan, 0.25, 0.5, 0.0, 0.9])
    pairs = [(low, high) for low in score[:3] for high in score[4:6]]
    assert scope_auc(KINDS, score) == pytest.approx(np.mean([high > low for low, high in pairs]))
    assert scope_auc(KINDS, np.full(8, 0.5)) == 0.5
    assert np.isnan(scope_auc(["local"] * 3, np.ones(3)))
    assert np.isnan(scope_auc(KINDS, np.full(8, np.nan)))


def test_confusion_and_balanced_accuracy():
    found = ["local", "local", "local", "undefined", "global", "local", "diffuse", "diffuse"]
    assert COLUMNS == ("local", "global", "position-bound", "diffuse", "mixed", "unsettled", "undefined")
    assert confusion(KINDS, found).tolist() == [
        [3, 0, 0, 0, 0, 0, 1],
        [1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0],
    ]
    assert balanced_accuracy(KINDS, found) == pytest.approx((3 / 4 + 1 / 2 + 0 + 1) / 4)
    assert balanced_accuracy(KINDS[:6], found[:6]) == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_the_matching_is_the_best_of_all():
    random = np.random.default_rng(0)
    planted, trained = random.normal(size=(4, 6)), 3 * random.normal(size=(6, 6))
    latent, cosine = match_directions(planted, trained)
    table = (planted / np.linalg.norm(planted, axis=1)[:, None]) @ (trained.T / np.linalg.norm(trained, axis=1))
    best = max(permutations(range(6), 4), key=lambda chosen: table[range(4), chosen].sum())
    assert tuple(latent) == best
    assert cosine == pytest.approx(table[range(4), best])
    # A dead latent, without a direction, is nobody's.
    assert match_directions(np.eye(2), np.array([[0.0, 0.0], [2.0, 0.1], [0.0, 1.0]]))[0].tolist() == [1, 2]
