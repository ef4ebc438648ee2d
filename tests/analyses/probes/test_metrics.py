"""Metrics against scikit-learn and against cases worked by hand; absent classes and ignored pixels included."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    jaccard_score,
    mean_squared_error,
    top_k_accuracy_score,
)

from infoscope.analyses.probes.metrics import (
    Confusion,
    DepthErrors,
    top_k,
    top_k_hits,
)
from infoscope.errors import InfoscopeError


@given(st.integers(2, 6), st.integers(0, 2**31), st.booleans())
def test_confusion_is_scikit_learns(classes, seed, some_absent):
    rng = np.random.default_rng(seed)
    most = classes - 1 if some_absent else classes
    truth = rng.integers(0, most, (3, 4, 5)).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.5, truth, rng.integers(0, most, truth.shape)).astype(np.int64)
    truth[rng.random(truth.shape) < 0.2] = 255
    found = Confusion(classes)
    for one, other in zip(truth, predicted, strict=True):
        found.add(one, other)
    kept = truth != 255
    true, seen = truth[kept], predicted[kept]
    np.testing.assert_array_equal(found.counts, confusion_matrix(true, seen, labels=range(classes)))
    present = np.union1d(true, seen)
    # Over the classes that are there, scikit-learn's mean is ours.
    assert found.mean_iou == pytest.approx(jaccard_score(true, seen, labels=present, average="macro"))
    np.testing.assert_allclose(found.iou[present], jaccard_score(true, seen, labels=present, average=None))
    assert set(found.absent) == {str(number) for number in set(range(classes)) - set(present.tolist())}
    assert found.pixel_accuracy == pytest.approx(accuracy_score(true, seen))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # predicted classes that the truth lacks
        assert found.mean_class_accuracy == pytest.approx(balanced_accuracy_score(true, seen))


def test_a_class_that_is_only_predicted_counts_as_missed():
    found = Confusion(("a", "b", "c"))
    found.add(np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1]))
    assert found.iou[:2].tolist() == [0.5, 0.0]
    assert found.absent == ("c",)
    assert found.mean_iou == 0.25
    assert found.mean_class_accuracy == 0.5


def test_what_is_predicted_on_ignored_pixels_does_not_matter():
    truth = np.array([[0, 1, 255, 255]], np.uint8)
    one, other = Confusion(2), Confusion(2)
    one.add(truth, np.array([[0, 1, 0, 1]]))
    other.add(truth, np.array([[0, 1, 7, 0]]))
    np.testing.assert_array_equal(one.counts, other.counts)
    assert one.counts.sum() == 2


def test_more_than_255_classes_have_another_value_for_ignore():
    found = Confusion(300)
    found.add(np.array([255, 299, 65535], np.uint16), np.array([255, 0, 1]))
    assert found.counts.sum() == 2
    assert found.counts[255, 255] == 1


def test_confusion_does_not_depend_on_grouping():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, (2, 6, 10))
    whole, in_parts = Confusion(4), Confusion(4)
    whole.add(truth, predicted)
    in_parts.add(truth[2:], predicted[2:])
    in_parts.add(truth[:2], predicted[:2])
    np.testing.assert_array_equal(whole.counts, in_parts.counts)


def test_confusion_of_nothing_is_nan():
    found = Confusion(2)
    found.add(np.array([255]), np.array([0]))
    assert np.isnan([found.mean_iou, found.pixel_accuracy, found.mean_class_accuracy]).all()


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [([2], [0], "2 is no true class: there are 2"), ([0], [2], "2 is no predicted"), ([0], [-1], "-1 is no predicted")],
)
def test_confusion_refuses_what_is_no_class(truth, predicted, message):
    with pytest.raises(InfoscopeError, match=message):
        Confusion(2).add(np.array(truth), np.array(predicted))


@pytest.fixture(scope="module")
def depths():
    """Three images of very different error, with holes, and depths beyond the range."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 9.5, (3, 8, 10)).astype(np.float32)
    predicted = truth + rng.normal(0, [[[0.1]], [[0.5]], [[2.0]]], truth.shape).astype(np.float32)
    truth[:, 0, :4] = 0
    truth[1, 1:4] = 12
    truth[2, 2, 2] = np.nan
    return truth, predicted


def by_hand(truth, predicted):
    valid = (truth > 0.001) & (truth < 10)
    true, found = truth[valid].astype(float), predicted[valid].astype(float).clip(0.001, 10)
    ratio = np.maximum(true / found, found / true)
    return [
        mean_squared_error(true, found) ** 0.5,
        np.mean(np.abs(true - found) / true),
        np.mean(np.abs(np.log10(true) - np.log10(found))),
        *[np.mean(ratio < 1.25**power) for power in (1, 2, 3)],
    ]


def values(scores):
    return [scores.rmse, scores.abs_rel, scores.log10, scores.delta1, scores.delta2, scores.delta3]


def test_depth_errors_over_images_and_over_pixels(depths):
    truth, predicted = depths
    errors = DepthErrors()
    for one, other in zip(truth, predicted, strict=True):
        errors.add(one, other)
    images = np.mean([by_hand(*pair) for pair in zip(truth, predicted, strict=True)], axis=0)
    assert values(errors.scores()) == pytest.approx(images)
    assert values(errors.scores("pixels")) == pytest.approx(by_hand(truth, predicted))
    # The two conventions are not the same number.
    assert errors.scores("pixels").rmse > 1.1 * errors.scores().rmse
    assert errors.scores().images == 3
    assert errors.scores().pixels == 3 * 80 - 12 - 30 - 1


def test_depth_errors_in_any_order(depths):
    truth, predicted = depths
    one, other = DepthErrors(), DepthErrors()
    for errors, order in ((one, (0, 1, 2)), (other, (2, 0, 1))):
        for index in order:
            errors.add(truth[index], predicted[index])
    assert other.scores() == one.scores()
    assert other.scores("pixels") == one.scores("pixels")


def test_depth_errors_inside_a_crop_alone(depths):
    truth, predicted = depths
    inside = np.zeros(truth[0].shape, bool)
    inside[2:6, 3:8] = True
    errors = DepthErrors()
    errors.add(truth[0], predicted[0], inside)
    assert values(errors.scores()) == pytest.approx(by_hand(truth[0, 2:6, 3:8], predicted[0, 2:6, 3:8]))


def test_depth_errors_of_an_image_of_holes_are_left_out(depths):
    truth, predicted = depths
    errors = DepthErrors()
    errors.add(np.zeros_like(truth[0]), predicted[0])
    assert errors.scores().images == 0
    assert np.isnan(values(errors.scores())).all()
    errors.add(truth[0], predicted[0])
    assert values(errors.scores()) == pytest.approx(by_hand(truth[0], predicted[0]))


def test_depth_errors_refuse_nan_and_an_empty_range(depths):
    truth, predicted = depths
    with pytest.raises(InfoscopeError, match="a predicted depth is NaN"):
        DepthErrors().add(truth[0], np.full_like(predicted[0], np.nan))
    with pytest.raises(InfoscopeError, match="are no range"):
        DepthErrors(0.0, 10.0)


@given(st.integers(1, 30), st.integers(3, 7), st.integers(1, 8), st.integers(0, 2**31))
def test_top_k_is_scikit_learns(images, classes, k, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(images, classes))
    label = rng.integers(0, classes, images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # k as large as the number of classes
        expected = top_k_accuracy_score(label, scores, k=k, labels=range(classes))
    assert top_k(scores, label, k) == pytest.approx(expected)


def test_of_equal_scores_the_lower_class_comes_first():
    scores = np.ones((3, 3), np.float32)
    assert top_k_hits(scores, np.array([0, 1, 2]), 1).tolist() == [True, False, False]
    assert top_k_hits(scores, np.array([0, 1, 2]), 2).tolist() == [True, True, False]
    assert (scores.argmax(1) == 0).all()


def test_top_k_refuses():
    scores = np.zeros((1, 2))
    for arguments, message in (
        ((np.full((1, 2), np.nan), np.array([0])), "a score is NaN"),
        ((scores, np.array([2])), "label 2 is no class: there are 2"),
        ((scores, np.array([0]), 0), "top-0 is no score"),
        ((scores[:0], np.array([], np.int64)), "no image to score"),
    ):
        with pytest.raises(InfoscopeError, match=message):
            top_k(*arguments)
