"""Scores against scikit-learn, scipy and cases done by hand."""

import numpy as np
import pytest
import scipy.stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from infoscope.analyses.zeroshot.classes import UNKNOWN
from infoscope.analyses.zeroshot.metrics import (
    Scores,
    calibration_error,
    estimate_changes,
    estimate_levels,
    score_logits,
    top_k,
)


@pytest.fixture(scope="module")
def drawn():
    random = np.random.default_rng(0)
    logits, label = 3 * random.normal(size=(400, 9)), random.integers(0, 9, 400)
    logits[np.arange(300), label[:300]] += 3
    return logits, label


def test_scores_are_those_of_scikit_learn_and_scipy(drawn):
    logits, label = drawn
    scores = score_logits(logits, label)
    chance = scipy.special.softmax(logits, axis=1)
    assert scores.right.mean() == accuracy_score(label, logits.argmax(1))
    assert top_k(scores.rank, 5) == pytest.approx(top_k_accuracy_score(label, logits, k=5))
    np.testing.assert_allclose(scores.entropy, scipy.stats.entropy(chance, axis=1))
    ordered = np.sort(chance, axis=1)
    np.testing.assert_allclose(scores.margin, ordered[:, -1] - ordered[:, -2])
    np.testing.assert_allclose(scores.confidence, ordered[:, -1])
    np.testing.assert_allclose(scores.true_probability, chance[np.arange(400), label])


def test_a_sigmoid_asks_of_each_class_by_itself(drawn):
    logits, label = drawn
    scores, softly = score_logits(logits - 4, label, "sigmoid"), score_logits(logits, label)
    np.testing.assert_array_equal(scores.prediction, softly.prediction)
    np.testing.assert_array_equal(scores.rank, softly.rank)
    chance = 1 / (1 + np.exp(4 - logits))
    np.testing.assert_allclose(scores.confidence, chance.max(1))
    np.testing.assert_allclose(scores.true_probability, chance[np.arange(400), label])
    of_each = scipy.stats.entropy(np.stack([chance, 1 - chance]), axis=0)
    np.testing.assert_allclose(scores.entropy, of_each.sum(1))
    # A bias says nothing to a softmax.
    np.testing.assert_allclose(score_logits(logits - 4, label).entropy, softly.entropy)
    # Far out nothing overflows, and what is certain has no entropy.
    sure = score_logits(np.array([[800.0, -800.0]]), np.array([1]), "sigmoid")
    assert (sure.entropy[0], sure.confidence[0], sure.true_probability[0]) == (0.0, 1.0, 0.0)


def test_of_equal_logits_the_first_is_taken():
    scores = score_logits(np.zeros((3, 4)), np.array([0, 1, UNKNOWN]))
    assert scores.prediction.tolist() == [0, 0, 0]
    assert scores.rank.tolist() == [0, 1, UNKNOWN]
    assert scores.margin.tolist() == [0, 0, 0]
    assert np.isnan(scores.true_probability[2])
    # Probabilities that round to the same leave the order to the logits.
    assert score_logits(np.array([[100.0, 90.0, 100.0 - 1e-13]]), np.array([2])).rank.tolist() == [1]


def test_calibration_error_is_that_of_scikit_learns_curve(drawn):
    logits, label = drawn
    scores = score_logits(logits, label)
    shares, confidences = calibration_curve(scores.right, scores.confidence, n_bins=15)
    counts, _ = np.histogram(scores.confidence, 15, (0, 1))
    expected = (counts[counts > 0] / len(label) * np.abs(shares - confidences)).sum()
    assert calibration_error(scores.confidence, scores.right) == pytest.approx(expected)


def test_calibration_error_by_hand():
    # Bins (0.2, 0.4]: 0.3 and 0.4, one right; (0.8, 1]: 1.0, right.
    confidence, right = np.array([0.3, 0.4, 1.0]), np.array([True, False, True])
    assert calibration_error(confidence, right, bins=5) == pytest.approx((2 * abs(0.5 - 0.35) + 0) / 3)
    assert calibration_error(np.array([0.0]), np.array([False])) == 0
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0, bool)))


def test_changes_by_hand():
    label = np.array([0, 0, 1, 1])
    before = score_logits(np.log([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]]), label)
    after = score_logits(np.log([[0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.1, 0.9]]), label)
    found = {name: round(each.value, 6) for name, each in estimate_changes(before, after, 50, 0).items()}
    assert found["flips"] == 0.5
    assert found["right_to_wrong"] == found["wrong_to_right"] == 0.25
    assert found["accuracy_change"] == 0
    assert found["true_rose"] == 0.5  # images 1 and 3
    assert found["confidence_rose"] == 0.5  # images 1 and 3: 0.6 to 0.7, 0.8 to 0.9
    assert found["true_probability_change"] == round((-0.1 + 0.3 - 0.3 + 0.1) / 4, 6)
    assert found["confidence_change"] == round((-0.1 + 0.1 - 0.1 + 0.1) / 4, 6)
    assert found["margin_change"] == 0
    levels = estimate_levels(before, 50, 0)
    assert levels["accuracy"].value == 0.75
    assert levels["true_probability"].value == pytest.approx((0.9 + 0.4 + 0.7 + 0.8) / 4)


def test_intervals_are_those_of_scipys_bootstrap(drawn):
    logits, label = drawn
    before, after = score_logits(logits, label), score_logits(1.5 * logits - 0.3 * logits[::-1], label)
    found = estimate_changes(before, after, 4000, seed=1)
    for name, values in (
        ("flips", (after.prediction != before.prediction).astype(float)),
        ("true_probability_change", after.true_probability - before.true_probability),
    ):
        known = scipy.stats.bootstrap(
            (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)
        ).confidence_interval
        width = known.high - known.low
        assert found[name].lower == pytest.approx(known.low, abs=0.05 * width)
        assert found[name].upper == pytest.approx(known.high, abs=0.05 * width)

    def error_change(place):
        first, second = (calibration_error(each.confidence[place], each.right[place]) for each in (before, after))
        return second - first

    random = np.random.default_rng(3)
    drawn_errors = [error_change(random.integers(0, 400, 400)) for _ in range(2000)]
    low, high = np.quantile(drawn_errors, (0.025, 0.975))
    change = found["calibration_error_change"]
    assert change.value == pytest.approx(error_change(np.arange(400)))
    assert (change.lower, change.upper) == (pytest.approx(low, abs=0.004), pytest.approx(high, abs=0.004))


def test_without_classes_nothing_is_said_of_what_is_right(drawn):
    logits, _ = drawn
    unknown = np.full(400, UNKNOWN)
    before, after = score_logits(logits, unknown), score_logits(2 * logits, unknown)
    assert set(estimate_levels(before, 10, 0)) == {"entropy", "margin", "confidence"}
    found = estimate_changes(before, after, 10, 0)
    assert set(found) == {"flips", "confidence_rose", "entropy_change", "margin_change", "confidence_change"}
    assert (found["flips"].value, found["confidence_rose"].value) == (0, 1)


def test_scores_are_joined_in_order(drawn):
    logits, label = drawn
    whole = score_logits(logits, label)
    joined = Scores.joined([score_logits(logits[part], label[part]) for part in (slice(0, 150), slice(150, None))])
    np.testing.assert_array_equal(joined.entropy, whole.entropy)
    np.testing.assert_array_equal(joined.rank, whole.rank)
