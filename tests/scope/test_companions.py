"""Breadth and change of maps against scipy and a Moran's I worked out by hand."""

from dataclasses import fields

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from infoscope.scope.companions import Companions, compare_maps
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import SparseMaps


def compare(first: np.ndarray, second: np.ndarray) -> Companions:
    side = first.shape[1]
    sparse = [SparseMaps.from_dense(maps.reshape(len(maps), -1)) for maps in (first, second)]
    return compare_maps(*sparse, side, patch_distances(side))


def slow_moran(dense: np.ndarray) -> float:
    """By its definition: all pairs of patches, weight 1 where they touch."""
    side = len(dense)
    centres = np.argwhere(np.ones((side, side)))
    weights = (np.abs(centres[:, None] - centres[None]).max(-1) == 1).astype(float)
    deviation = dense.ravel() - dense.mean()
    return float(dense.size / weights.sum() * (deviation @ weights @ deviation) / (deviation @ deviation))


def slow_gyration(dense: np.ndarray) -> float:
    """From all pairs of patches: half the mean squared distance between two draws."""
    share, distances = dense.ravel() / dense.sum(), patch_distances(len(dense))
    return float(np.sqrt(0.5 * share @ distances**2 @ share))


def random_maps(seed: int, count: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    maps = np.where(rng.random((count, side, side)) < 0.3, rng.gamma(2.0, 1.0, (count, side, side)), 0.0)
    maps[:, 0, 0] += 0.25
    return maps.astype(np.float32)


@pytest.mark.parametrize("side", [2, 3, 7])
def test_as_defined(side):
    first, second = random_maps(0, 25, side), random_maps(1, 25, side)
    found = compare(first, second)
    # Values as the sparse maps hold them, added up in float64 by both sides.
    first, second = first.astype(float), second.astype(float)
    for place, (a, b) in enumerate(zip(first, second, strict=True)):
        shares = [(m / m.sum()).ravel() for m in (a, b)]
        support = [m.ravel() > 0 for m in (a, b)]
        peaks = [np.argwhere(m == m.max())[0] for m in (a, b)]
        expected = {
            "entropy": np.mean([entropy(share) for share in shares]),
            "participation": np.mean([1 / (share**2).sum() for share in shares]),
            "gyration": np.mean([slow_gyration(m) for m in (a, b)]),
            "moran": np.mean([slow_moran(m) for m in (a, b)]),
            "peak_displacement": np.hypot(*(peaks[0] - peaks[1])),
            "support_iou": (support[0] & support[1]).sum() / (support[0] | support[1]).sum(),
            "jensen_shannon": jensenshannon(*shares, base=2) ** 2,
        }
        for field in fields(Companions):
            value = getattr(found, field.name)[place]
            assert value == pytest.approx(expected[field.name], rel=1e-9, abs=1e-9), field.name


def test_moran_by_hand():
    # 2 x 2, all four touch: 12 ordered pairs. Deviations 3, -1, -1, -1: over pairs the sum is -12, of squares 12.
    single = np.zeros((1, 2, 2), np.float32)
    single[0, 0, 0] = 4.0
    assert compare(single, single).moran[0] == pytest.approx(4 / 12 * -12 / 12)
    # 3 x 3, 40 ordered pairs, the left column 1: deviations 2/3 and -1/3. Within the column 4 ordered pairs, from it to
    # the middle 14, among the others 22: 4 * 4/9 - 14 * 2/9 + 22 * 1/9 = 10/9, over squares 3 * 4/9 + 6 * 1/9 = 2.
    column = np.zeros((1, 3, 3), np.float32)
    column[0, :, 0] = 1.0
    assert compare(column, column).moran[0] == pytest.approx(9 / 40 * (10 / 9) / 2)


def test_even_maps_have_no_moran_and_empty_maps_nothing():
    even, empty = np.full((1, 4, 4), 0.3, np.float32), np.zeros((1, 4, 4), np.float32)
    found = compare(even, even)
    assert np.isnan(found.moran[0])
    assert found.entropy[0] == pytest.approx(np.log(16))
    assert (found.support_iou[0], found.jensen_shannon[0], found.peak_displacement[0]) == (1.0, 0.0, 0.0)
    for pair in ((even, empty), (empty, even), (empty, empty)):
        found = compare(*pair)
        assert all(np.isnan(getattr(found, field.name)[0]) for field in fields(Companions))


def test_maps_apart_are_one_bit_apart():
    first, second = np.zeros((1, 3, 3), np.float32), np.zeros((1, 3, 3), np.float32)
    first[0, 0], second[0, 2] = 0.7, [0.1, 0.2, 0.9]
    found = compare(first, second)
    assert found.jensen_shannon[0] == pytest.approx(1.0)
    assert found.support_iou[0] == 0.0
