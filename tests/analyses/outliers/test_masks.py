"""Masks and their distances: against POT with masks made anew, and planted movements."""

import numpy as np
import ot
import pytest

from infoscope.analyses.outliers.cutoffs import describe_norms, judge_presence
from infoscope.analyses.outliers.masks import judge_places, judge_stability, shift_masks
from infoscope.scope.geometry import patch_distances

GRID, SHIFT = 6, 2
SIDE = GRID - SHIFT


def pot(first, second):
    """POT's distance between two sets of cells, as a share of the diagonal; NaN where one is empty."""
    if not first or not second:
        return np.nan
    a, b = np.full(len(first), 1 / len(first)), np.full(len(second), 1 / len(second))
    distances = patch_distances(SIDE)
    return ot.emd2(a, b, np.ascontiguousarray(distances[np.ix_(first, second)])) / distances.max()


def overlap(norms):
    """Cell of the overlap to norm, in both crops, by the definition: rows and columns [s:p] and [0:p-s]."""
    first = [norms[0, (row + SHIFT) * GRID + column + SHIFT] for row in range(SIDE) for column in range(SIDE)]
    second = [norms[1, row * GRID + column] for row in range(SIDE) for column in range(SIDE)]
    return first, second


def test_every_mask_is_as_pot_has_it():
    norms = np.random.default_rng(0).lognormal(0, 1, (40, 2, GRID**2)).astype(np.float32)
    threshold = float(np.quantile(norms, 0.9))
    found = shift_masks(norms, threshold, grid=GRID, shift=SHIFT, image=np.arange(40))
    checked = 0
    for row in range(40):
        crops = overlap(norms[row])
        outlier = [[cell for cell, norm in enumerate(crop) if norm > threshold] for crop in crops]
        others = [[cell for cell, norm in enumerate(crop) if norm <= threshold] for crop in crops]
        upcoming = [
            sorted(those, key=lambda cell: -crop[cell])[: len(mask)]
            for crop, those, mask in zip(crops, others, outlier, strict=True)
        ]
        assert found.sizes[row].tolist() == [len(mask) for mask in outlier]
        for name, masks in (("outlier", outlier), ("next", upcoming), ("complement", others)):
            assert getattr(found, name)[row] == pytest.approx(pot(*masks), abs=1e-12, nan_ok=True)
        checked += bool(outlier[0] and outlier[1])
        assert np.isnan(found.random[row]) == np.isnan(found.outlier[row])
    assert checked > 10
    assert found.valid.sum() == checked


def test_random_masks_depend_on_seed_and_image_alone():
    norms = np.random.default_rng(0).lognormal(0, 1, (20, 2, GRID**2)).astype(np.float32)
    options = {"grid": GRID, "shift": SHIFT}
    whole = shift_masks(norms, 2.0, image=np.arange(20), **options)
    half = shift_masks(norms[10:], 2.0, image=np.arange(10, 20), **options)
    np.testing.assert_array_equal(whole.random[10:], half.random)
    assert not np.array_equal(whole.random, shift_masks(norms, 2.0, image=np.arange(20), seed=1, **options).random)


def test_random_masks_of_one_patch_move_as_chance_says():
    # Two independent single patches, uniform over the grid: the mean of the distances.
    grid, shift = 14, 2
    norms = np.ones((4000, 2, grid**2), np.float32)
    norms[:, 0, 5 * grid + 5] = norms[:, 1, 3 * grid + 3] = 9.0  # one picture's patch: it does not move
    found = shift_masks(norms, 3.0, grid=grid, shift=shift, image=np.arange(4000))
    assert found.outlier.max() == 0.0
    assert found.random.mean() == pytest.approx(0.4008, abs=0.01)  # method, section 3, for 12 x 12


def test_a_token_glued_to_its_place_moves_by_the_shift():
    grid = 14
    norms = np.ones((1, 2, grid**2), np.float32)
    norms[:, :, 6 * grid + 7] = 9.0
    found = shift_masks(norms, 3.0, grid=grid, shift=2, image=np.arange(1))
    assert found.outlier[0] == pytest.approx(2 / 11)  # s / (p - s - 1)


def test_masks_that_vanish_are_counted_and_left_out():
    norms = np.ones((3, 2, 16), np.float32)
    norms[0, 0, 5] = norms[0, 1, 0] = 9.0
    norms[1, 0, 5] = 9.0
    found = shift_masks(norms, 3.0, grid=4, shift=1, image=np.arange(3))
    assert found.valid.tolist() == [True, False, False]
    assert found.vanished == 0.5
    stability = judge_stability(found)
    assert (stability.images, stability.pairs, stability.vanished, stability.size) == (3, 1, 0.5, 1.0)
    assert stability.masks[0].mean == 0.0
    assert stability.masks[0].error is None


def test_without_outliers_there_is_nothing_to_move():
    found = shift_masks(np.ones((3, 2, 16), np.float32), 3.0, grid=4, shift=1, image=np.arange(3))
    stability = judge_stability(found)
    assert (stability.pairs, stability.vanished, stability.size) == (0, None, None)
    assert all(mask.mean is None and mask.pairs == 0 for mask in stability.masks)


def test_with_too_few_others_there_is_no_mask_of_equal_size():
    norms = np.full((1, 2, 16), 9.0, np.float32)
    norms[0, :, 15] = norms[0, :, 0] = 1.0
    found = shift_masks(norms, 3.0, grid=4, shift=1, image=np.arange(1))
    assert found.sizes.tolist() == [[8, 8]]
    assert np.isnan([found.next[0], found.random[0]]).all()
    masks = {mask.mask: mask for mask in judge_stability(found).masks}
    assert masks["outlier"].pairs == masks["complement"].pairs == 1
    assert masks["next"].pairs == 0


def test_tokens_that_keep_to_pixels_or_to_places_are_counted_one_by_one():
    grid, shift = 6, 2
    norms = np.random.default_rng(3).random((5, 2, grid * grid)).astype(np.float32)
    threshold = 0.7
    high = norms.reshape(5, 2, grid, grid) > threshold
    tokens = on_pixels = at_place = 0
    for image in range(5):
        for row in range(shift, grid):
            for column in range(shift, grid):
                if high[image, 0, row, column]:
                    tokens += 1
                    on_pixels += int(high[image, 1, row - shift, column - shift])
                    at_place += int(high[image, 1, row, column])
    found = judge_stability(shift_masks(norms, threshold, grid=grid, shift=shift, image=np.arange(5)))
    assert (found.tokens, found.on_pixels, found.at_place) == (tokens, on_pixels / tokens, at_place / tokens)
    assert 0 < on_pixels < tokens
    nothing = judge_stability(shift_masks(norms, 2.0, grid=grid, shift=shift, image=np.arange(5)))
    assert (nothing.tokens, nothing.on_pixels, nothing.at_place) == (0, None, None)


def test_means_and_standard_errors_by_hand():
    norms = np.ones((3, 2, 16), np.float32)
    for row, cell in enumerate((0, 1, 2)):  # the second crop's mask moves 0, 1 and 2 patches to the right
        norms[row, 0, 5] = norms[row, 1, cell] = 9.0
    masks = judge_stability(shift_masks(norms, 3.0, grid=4, shift=1, image=np.arange(3))).masks
    diagonal = 2 * np.sqrt(2)
    assert masks[0].mean == pytest.approx(1 / diagonal)
    assert masks[0].error == pytest.approx(1 / diagonal / np.sqrt(3))
    for mask in masks[1:]:
        assert mask.below_outlier == pytest.approx(masks[0].mean - mask.mean)


def test_places_are_counted_by_hand():
    outlier = np.zeros((4, 25), bool)
    outlier[:, 0] = outlier[:2, 12] = outlier[0, 7] = outlier[3, 3] = True  # a corner, the middle, within, an edge
    places = judge_places(outlier, grid=5)
    assert (places.patches, places.cells, places.likeliest, places.likeliest_share) == (4, 25, 0, 0.5)
    assert (places.corner_share, places.corner_even) == (0.5, 4 / 25)
    assert (places.border_share, places.border_even) == (5 / 8, 16 / 25)
    nowhere = judge_places(np.zeros((4, 25), bool), grid=5)
    assert nowhere.likeliest is nowhere.corner_share is nowhere.border_share is None


def test_presence_is_said_of_the_model_and_of_the_block():
    body = np.ones(20000, np.float32)
    outliers = np.concatenate([body, np.full(20, 12.0, np.float32)])
    none, some = describe_norms(body), describe_norms(outliers)
    here = judge_presence([none, some, some, none, some], 1)
    assert (here.kind, here.blocks, here.farthest_block, here.farthest_reach) == ("outlier", [1, 2, 4], 1, 12.0)
    assert here.sentence.startswith("Outlier tokens at blocks 1 to 2 and 4: at block 1, 0.10% of the patch tokens")
    elsewhere = judge_presence([none, some], 0)
    assert elsewhere.kind == "tail"
    assert elsewhere.sentence.startswith("Outlier tokens at block 1, but none at block 0: there not 1 in 10,000")
    nowhere = judge_presence([none, none], 1)
    assert (nowhere.kind, nowhere.blocks) == ("tail", [])
    assert nowhere.sentence.startswith("No outlier tokens: at no block")
    assert "tail of one distribution" in nowhere.sentence
