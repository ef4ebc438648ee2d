"""Classifiers of patches: convex against scikit-learn, several learning rates against each alone, wrong input."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from dense_data import CLASSES, GRID, WIDTH, Maps, segments
from infoscope.analyses.probes.metrics import Confusion
from infoscope.analyses.probes.reading import DenseFeatures
from infoscope.analyses.probes.recipes import LogisticPath
from infoscope.analyses.probes.segmentation_head import RECIPES, class_shares, fit_segmentation
from infoscope.errors import InfoscopeError

SIMPLE = RECIPES["simple"]
DINOV2 = RECIPES["dinov2"]


def of_rates(*rates, **options):
    solver = dataclasses.replace(DINOV2.solver, learning_rates=rates, batch=4, epochs=1, **options)
    return dataclasses.replace(DINOV2, solver=solver)


@pytest.fixture(scope="module")
def training():
    return segments(16)


@pytest.fixture(scope="module")
def test_set():
    return segments(6, seed=1, shape=(30, 21))


def score(head, features, masks):
    right = [(found == mask)[mask != 255] for found, mask in head.predictions(features, masks)]
    return np.concatenate(right).mean()


def test_shares_of_classes_in_patches_by_hand():
    mask = np.array([[0, 0, 2, 255], [0, 1, 2, 255], [255, 255, 1, 1], [255, 255, 1, 1]], np.uint8)
    found = class_shares(Maps([mask, mask]), np.array([1]), grid=2, classes=3)
    assert found.rows.tolist() == [4, 5, 7]
    assert found.values.toarray().tolist() == [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    assert found.weight.tolist() == [1.0, 0.5, 1.0]


def test_the_convex_head_is_scikit_learns_on_a_row_for_each_pixel(training):
    features, masks = training
    recipe = dataclasses.replace(SIMPLE, solver=LogisticPath((0.01,), tolerance=1e-11))
    head = fit_segmentation(features, masks, recipe, classes=CLASSES, validation=training)
    shares = class_shares(masks, np.arange(16), GRID, CLASSES)
    # A row for each class of each patch, with the weight that its pixels have.
    row, kind = np.nonzero(shares.values.toarray())
    weight = shares.values.toarray()[row, kind] * shares.weight[row]
    rows = features.rows[shares.rows].astype(np.float64)
    scaler = StandardScaler().fit(rows, sample_weight=shares.weight)
    theirs = LogisticRegression(C=1 / (0.01 * weight.sum()), tol=1e-10, max_iter=5000)
    theirs.fit(scaler.transform(rows)[row], kind, sample_weight=weight)
    expected = theirs.coef_ / scaler.scale_
    np.testing.assert_allclose(head.linear.weight, expected, atol=3e-3 * np.abs(expected).max())


@pytest.mark.parametrize("recipe", [SIMPLE, of_rates(1e-3, 1e-2, least_steps=60)])
def test_patches_are_told_apart_at_the_masks_size(recipe, training, test_set):
    head = fit_segmentation(*training, recipe, classes=CLASSES)
    assert score(head, *test_set) > 0.8
    assert head.chosen.score == max(candidate.score for candidate in head.candidates)
    assert head.held_out == 3
    again = fit_segmentation(*training, recipe, classes=CLASSES)
    np.testing.assert_array_equal(again.linear.weight, head.linear.weight)


def test_training_together_is_training_alone(training):
    rates = (1e-3, 5e-3, 2e-2)
    heads = {
        some: fit_segmentation(*training, of_rates(*some, least_steps=25), classes=CLASSES, validation=training)
        for some in (rates, *((rate,) for rate in rates))
    }
    together = heads[rates]
    assert len({candidate.score for candidate in together.candidates}) > 1
    for candidate in together.candidates:
        assert heads[(candidate.setting,)].chosen.score == pytest.approx(candidate.score, abs=1e-5)
    best = heads[(together.chosen.setting,)]
    np.testing.assert_allclose(together.linear.weight, best.linear.weight, atol=1e-5)
    np.testing.assert_allclose(together.linear.bias, best.linear.bias, atol=1e-5)


def test_the_choice_is_made_on_every_so_many_th_pixel(training, test_set):
    recipe = dataclasses.replace(SIMPLE, choice_step=3)
    head = fit_segmentation(*training, recipe, classes=CLASSES, validation=test_set)
    seen = Confusion(CLASSES)
    for found, mask in head.predictions(*test_set):
        seen.add(mask[1::3, 1::3], found[1::3, 1::3])
    assert head.chosen.score == seen.mean_iou


@pytest.mark.parametrize("recipe", [SIMPLE, of_rates(1e-3, least_steps=2)])
def test_wrong_input_is_refused(recipe, training):
    features, masks = training

    def refused(message, features=features, masks=masks, **options):
        with pytest.raises(InfoscopeError, match=message):
            fit_segmentation(features, masks, recipe, **{"classes": CLASSES, **options})

    refused("class 2, and there are 2 classes", classes=2)
    refused("16 images' features and 15 targets", masks=Maps(masks[:15]))
    refused("no images", DenseFeatures(features.patches[:0]), Maps())
    refused("too few to hold some out", DenseFeatures(features.patches[:1]), Maps(masks[:1]))
    refused("nothing to train on", masks=Maps(np.full_like(mask, 255) for mask in masks))
    broken = features.patches.copy()
    broken[:, 3, 2] = np.nan
    refused("hold NaN", DenseFeatures(broken))
    with pytest.raises(InfoscopeError, match="15 patches are no square grid"):
        DenseFeatures(features.patches[:, 1:])


def test_one_class_only_is_refused_by_the_convex_head(training):
    features, masks = training
    with pytest.raises(InfoscopeError, match="one class"):
        fit_segmentation(features, Maps(np.zeros_like(mask) for mask in masks), SIMPLE, classes=CLASSES)


def test_a_memmap_of_half_floats_gives_what_an_array_gives(training, tmp_path):
    features, masks = training
    np.save(tmp_path / "patches.npy", features.patches.astype(np.float16))
    mapped = np.load(tmp_path / "patches.npy", mmap_mode="r")
    assert mapped.shape == (16, GRID * GRID, WIDTH)
    heads = [
        fit_segmentation(DenseFeatures(each), masks, SIMPLE, classes=CLASSES) for each in (mapped, np.array(mapped))
    ]
    np.testing.assert_array_equal(heads[0].linear.weight, heads[1].linear.weight)
