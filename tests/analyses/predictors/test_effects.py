"""Differences between sides of a ladder: worked by hand, against statsmodels' rule, and on noise."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from infoscope.analyses.predictors.effects import compare_sets, holm


def test_a_difference_worked_by_hand():
    found = compare_sets(np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]), np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]))
    # By set 2/3 and 1/3, by image 1/2, 1/2 and 1/2.
    assert (found.first, found.second, found.value, found.pairs) == pytest.approx((5 / 6, 1 / 3, 1 / 2, 2))
    assert found.sets_error == pytest.approx(1 / 6)
    assert found.images_error == 0


def test_with_sets_that_are_alike_only_the_images_are_uncertain():
    random = np.random.default_rng(0)
    first, second = np.tile(random.random(50), (4, 1)), np.tile(random.random(50), (4, 1))
    found = compare_sets(first, second)
    assert found.sets_error == pytest.approx(0, abs=1e-12)
    difference = (first - second)[0]
    assert found.images_error == pytest.approx(difference.std(ddof=1) / np.sqrt(50))
    assert found.error == pytest.approx(found.images_error)


def test_with_images_that_are_alike_it_is_the_paired_t_test():
    random = np.random.default_rng(1)
    first, second = random.random((6, 1)) + np.zeros((6, 3)), random.random((6, 1)) + np.zeros((6, 3))
    assert compare_sets(first, second).p == pytest.approx(ttest_rel(first[:, 0], second[:, 0]).pvalue)


def test_a_surplus_of_sets_is_left_out():
    first = np.ones((3, 2))
    assert compare_sets(first, np.zeros((2, 2))).pairs == 2
    assert np.isnan(compare_sets(first[:1], np.zeros((2, 2))).sets_error)


def test_noise_alone_is_rarely_called_a_difference():
    random = np.random.default_rng(2)
    sets = [compare_sets(random.random((8, 1)) + np.zeros((8, 40)), np.zeros((8, 40))).p for _ in range(2)]
    assert max(sets) < 0.05
    found = [
        compare_sets(random.normal(0, 1, (8, 1)) + random.normal(0, 0.5, (8, 40)), np.zeros((8, 40))).p
        for _ in range(400)
    ]
    # An error that is too small by a third would give 14 %.
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.08


def test_the_error_of_both_is_that_of_fresh_sets_and_images():
    random = np.random.default_rng(3)

    def drawn():
        effect = random.normal(0, 1, (8, 1)) + random.normal(0, 2, (1, 30)) + random.normal(0, 3, (8, 30))
        return compare_sets(effect, np.zeros((8, 30)))

    found = [drawn() for _ in range(600)]
    spread = np.std([each.value for each in found])
    assert spread == pytest.approx(np.sqrt(1 / 8 + 4 / 30 + 9 / 240), rel=0.1)
    assert np.sqrt(np.mean([each.error**2 for each in found])) == pytest.approx(spread, rel=0.1)


def test_holms_correction_worked_by_hand():
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
