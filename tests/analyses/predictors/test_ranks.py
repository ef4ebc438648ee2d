"""Rank statistics against scikit-learn, closed forms and data whose answer is known."""

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.linear_model import LinearRegression

from infoscope.analyses.predictors.ranks import explained_share, left_over, partial_spearman

RANDOM = np.random.default_rng(0)
OTHERS = RANDOM.normal(size=(300, 3)) ** 3
TARGET = np.exp(OTHERS[:, 0]) - OTHERS[:, 1] + RANDOM.normal(size=300)


def test_the_explained_share_is_that_of_a_regression_of_ranks():
    ranks = rankdata(OTHERS, axis=0)
    fitted = LinearRegression().fit(ranks, rankdata(TARGET))
    assert explained_share(TARGET, OTHERS) == pytest.approx(fitted.score(ranks, rankdata(TARGET)), abs=1e-12)
    assert left_over(TARGET, OTHERS) == pytest.approx(rankdata(TARGET) - fitted.predict(ranks), abs=1e-9)


def test_of_one_measure_it_is_the_square_of_spearmans_correlation():
    for column in OTHERS.T:
        assert explained_share(TARGET, column[:, None]) == pytest.approx(spearmanr(TARGET, column)[0] ** 2, abs=1e-12)


def test_a_partial_correlation_of_one_given_measure_is_that_of_the_closed_form():
    first, second, given = TARGET, OTHERS[:, 0], OTHERS[:, 1]
    ab, ac, bc = (spearmanr(*pair)[0] for pair in ((first, second), (first, given), (second, given)))
    expected = (ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2))
    assert partial_spearman(first, second, given[:, None]) == pytest.approx(expected, abs=1e-12)


def test_without_a_given_measure_it_is_spearmans_correlation():
    assert partial_spearman(TARGET, OTHERS[:, 0], OTHERS[:, :0]) == pytest.approx(spearmanr(TARGET, OTHERS[:, 0])[0])


def test_what_cannot_be_told_is_nan():
    assert np.isnan(explained_share(np.ones(5), RANDOM.normal(size=(5, 1))))
    assert np.isnan(partial_spearman(TARGET, OTHERS[:, 0], np.stack([TARGET, OTHERS[:, 1]], axis=1)))
