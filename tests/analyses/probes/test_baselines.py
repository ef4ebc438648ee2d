"""Baselines without any model, against numbers made by hand."""

import numpy as np
import pytest
from PIL import Image
from sklearn.dummy import DummyClassifier

from infoscope.analyses.probes.baselines import patch_colours
from infoscope.analyses.probes.classification import majority_label
from infoscope.analyses.probes.depth import DepthCounts, mean_depth, measure_depths
from infoscope.analyses.probes.depth_sets import open_depths
from infoscope.analyses.probes.metrics import Confusion
from infoscope.analyses.probes.segmentation import ClassCounts, majority_class, untrained_classes
from infoscope.errors import InfoscopeError
from infoscope.images.views import Views


def test_patch_colours_by_hand():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 20, 3), dtype=np.uint8)
    found = patch_colours(pixels, 4)
    assert found.shape == (2, 15, 6)
    # Row-major on the grid: patch 7 is in row 1, column 2.
    patch = pixels[1, 4:8, 8:12].reshape(-1, 3) / 255
    np.testing.assert_allclose(found[1, 7], [*patch.mean(0), *patch.std(0)], rtol=1e-6)
    np.testing.assert_allclose(found.mean(1)[0, :3], pixels[0].reshape(-1, 3).mean(0) / 255, rtol=1e-6)
    with pytest.raises(InfoscopeError, match="20 x 12 pixels is not made of patches of 5"):
        patch_colours(pixels, 5)


def test_an_even_patch_has_no_spread_and_views_fit():
    views = Views(patch_size=14, grid=16)
    found = patch_colours(views.full(Image.new("RGB", (300, 200), (10, 200, 77)))[None], 14)
    assert found.shape == (1, 256, 6)
    np.testing.assert_array_equal(found[0, :, 3:], 0)
    np.testing.assert_allclose(found[0, 5, :3], np.array([10, 200, 77]) / 255, rtol=1e-6)


def test_majority_label_is_scikit_learns():
    rng = np.random.default_rng(0)
    train, test = rng.choice(8, 200, p=np.arange(1, 9) / 36), rng.integers(0, 8, 100)
    label, top1, top5 = majority_label(train, test, 8)
    dummy = DummyClassifier().fit(np.zeros((200, 1)), train)
    assert label == dummy.predict(np.zeros((1, 1)))[0]
    assert top1 == dummy.score(np.zeros((100, 1)), test)
    five = np.argsort(-np.bincount(train, minlength=8), kind="stable")[:5]
    assert top5 == np.isin(test, five).mean()


def test_majority_class_from_counts_is_that_from_pixels():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, (4, 9))
    by_pixels = Confusion(("a", "b", "c"))
    by_pixels.add(target, np.full(target.shape, 1))
    train = ClassCounts(("a", "b", "c"), np.array([5, 7, 0]), 2)
    test = ClassCounts(("a", "b", "c"), np.bincount(target.ravel(), minlength=3), 0)
    np.testing.assert_array_equal(majority_class(train, test).counts, by_pixels.counts)
    assert untrained_classes(train, test) == ("c",)
    with pytest.raises(InfoscopeError, match="splits have other classes"):
        untrained_classes(train, ClassCounts(("a", "b"), np.array([1, 1]), 0))


def test_mean_depth_is_the_best_constant(tmp_path):
    rng = np.random.default_rng(0)
    depths = rng.uniform(1, 9, (3, 4, 6)).astype(np.float32)
    depths[:, 0] = 0
    for folder in ("pictures", "depths"):
        (tmp_path / folder).mkdir()
    for index, depth in enumerate(depths):
        Image.new("RGB", (6, 4)).save(tmp_path / "pictures" / f"{index}.png")
        np.save(tmp_path / "depths" / f"{index}.npy", depth)
    split = open_depths(tmp_path / "pictures", tmp_path / "depths")
    counts = measure_depths(split)
    seen = depths[depths > 0].astype(float)
    assert counts.mean == pytest.approx(seen.mean())
    rmse = mean_depth(counts, split).scores("pixels").rmse
    assert rmse == pytest.approx(seen.std())
    for other in (0.99, 1.01):
        worse = DepthCounts(counts.mean * other, counts.pixels, counts.holes)
        assert mean_depth(worse, split).scores("pixels").rmse > rmse
    assert mean_depth(counts, split, [2]).scores().rmse == pytest.approx(
        np.sqrt(np.mean((depths[2][depths[2] > 0] - counts.mean) ** 2))
    )
