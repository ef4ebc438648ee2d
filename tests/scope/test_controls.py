"""Controls against POT and plain loops, on hand-made pairs, and independent of how the pairs are cut."""

from dataclasses import fields

import numpy as np
import ot
import pytest

from infoscope.scope import controls
from infoscope.scope.controls import FLOORS, FeatureControls, control_features, control_pairs
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import MapPairs, SparseMaps
from infoscope.scope.score import FeatureScores, score_features, score_pairs


def make_pairs(first: np.ndarray, second: np.ndarray, per_feature: int) -> MapPairs:
    """Dense maps ``[pair, row, column]`` of both crops, ``per_feature`` pairs to each feature."""
    count, cells = len(first), first.shape[1] * first.shape[2]
    feature, rank = np.divmod(np.arange(count), per_feature)
    return MapPairs(
        feature=feature.astype(np.uint32),
        rank=rank.astype(np.uint16),
        image=np.arange(count, dtype=np.uint64),
        score=np.full(count, 4.0, np.float32),
        first=SparseMaps.from_dense(first.reshape(count, cells)),
        second=SparseMaps.from_dense(second.reshape(count, cells)),
    )


def random_maps(seed: int, count: int, grid: int) -> np.ndarray:
    """Codes of about a fifth of the patches; every fifth map is empty."""
    rng = np.random.default_rng(seed)
    maps = np.where(rng.random((count, grid, grid)) < 0.2, rng.gamma(2.0, 1.0, (count, grid, grid)), 0.0)
    maps[rng.random(count) < 0.2] = 0.0
    return maps.astype(np.float32)


def gather(pairs: MapPairs, grid: int, shift: int, k: int, min_pairs: int) -> tuple[FeatureScores, FeatureControls]:
    scores = score_pairs(pairs, grid, shift)
    features = int(pairs.feature.max()) + 1
    table = score_features(scores, pairs.feature, features, min_pairs)
    largest = float(patch_distances(grid - shift).max())
    found = control_pairs(pairs, grid, shift, floored=np.ones(len(pairs), np.bool_))
    return table, control_features(found, scores, table, pairs.feature, pairs.rank, k, min_pairs, largest)


def slow_emd(first: np.ndarray, second: np.ndarray, metric: str = "euclidean") -> float:
    """POT on two dense maps, over the largest distance; NaN where one is empty."""
    if not first.any() or not second.any():
        return np.nan
    centres = np.argwhere(np.ones(first.shape)).astype(float)
    ground = ot.dist(centres, metric="euclidean" if metric == "euclidean" else "cityblock")
    first, second = first.astype(float).ravel(), second.astype(float).ravel()
    return float(ot.emd2(first / first.sum(), second / second.sum(), ground)) / ground.max()


@pytest.mark.parametrize(("grid", "shift", "metric"), [(5, 0, "euclidean"), (7, 2, "euclidean"), (7, 2, "l1")])
def test_pairs_as_pot_has_them(grid, shift, metric):
    k, side = 4, grid - shift
    first, second = random_maps(1, 8 * k, grid), random_maps(2, 8 * k, grid)
    found = control_pairs(make_pairs(first, second, k), grid, shift, metric, np.ones(8 * k, np.bool_))
    ours, theirs = first[:, shift:, shift:], second[:, :side, :side]
    valid = ours.any((1, 2)) & theirs.any((1, 2))
    assert 0 < valid.sum() < 8 * k
    for pair in range(8 * k):
        position = slow_emd(first[pair], second[pair], metric)
        assert found.position[pair] == pytest.approx(position, abs=1e-9, nan_ok=True)
        own = [m for m in range(pair // k * k, pair // k * k + k) if valid[m]]
        null = np.nan
        if valid[pair] and len(own) > 1:
            null = slow_emd(ours[pair], theirs[own[(own.index(pair) + 1) % len(own)]], metric)
        assert found.null[pair] == pytest.approx(null, abs=1e-9, nan_ok=True)
        for place, floor in enumerate(FLOORS):
            cut = [np.where(m >= floor * m.max(), m, 0) for m in (first[pair], second[pair])]
            expected = slow_emd(cut[0][shift:, shift:], cut[1][:side, :side], metric)
            assert found.floors[pair, place] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_features_gather_their_pairs_as_defined():
    grid, shift, k, least = 6, 1, 5, 3
    first, second = random_maps(3, 20 * k, grid), random_maps(4, 20 * k, grid)
    pairs = make_pairs(first, second, k)
    scores, found = score_pairs(pairs, grid, shift), control_pairs(pairs, grid, shift)
    table, features = gather(pairs, grid, shift, k, least)
    largest = patch_distances(grid - shift).max()

    def mean(values: np.ndarray, least: int = 1) -> float:
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) >= least else np.nan

    for j in range(20):
        own = pairs.feature == j
        emd, null = scores.emd[own], mean(found.null[own], 2)
        cds = mean(emd, least)
        retained = mean(np.where(scores.retention[own] >= 0.5, emd, np.nan), least)
        disagrees = float(not table.cds_ci_lower[j] <= retained <= table.cds_ci_upper[j])
        expected = {
            "position_control": mean(found.position[own], least),
            "position_pairs": (~np.isnan(found.position[own])).sum(),
            "cds_null": null,
            "cds_calibrated": cds / null if null * largest >= 0.5 else np.nan,
            "retained_disagrees": np.nan if np.isnan(retained) or np.isnan(cds) else disagrees,
            "cds_even": mean(emd[::2], 2),
            "cds_odd": mean(emd[1::2], 2),
            "cds_by_k": [mean(emd[:1]), mean(emd[:2], 2), mean(emd[:4], 3), cds],
            "moran": mean(found.companions.moran[own]),
            "gyration": mean(found.companions.gyration[own]),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(features, name)[j], value, rtol=1e-12, err_msg=f"{name} of {j}")
    assert np.array_equal(features.cds_by_k[:, -1], table.cds, equal_nan=True)


def test_a_score_that_rests_on_residue_is_flagged():
    """Ten pairs keep their peak and do not move; six hold a weak rest that jumps, or in the other feature none does."""
    grid, k = 8, 16
    first, second = np.zeros((2, 2 * k, grid, grid), np.float32)
    first[:, 4, 4], second[:, 3, 3] = 4.0, 4.0
    first[10:k], second[10:k] = 0.0, 0.0
    first[10:k, 1, 1], second[np.arange(10, k), 6, np.arange(1, 7)] = 1.0, 1.0
    table, found = gather(make_pairs(first, second, k), grid, 1, k, 8)
    assert table.cds[0] > 0.2
    assert table.cds_retained.tolist() == [0.0, 0.0]
    assert found.retained_disagrees.tolist() == [1.0, 0.0]


def test_neither_blocks_nor_other_features_change_anything(monkeypatch):
    grid, shift, k = 6, 2, 4
    pairs = make_pairs(random_maps(5, 12 * k, grid), random_maps(6, 12 * k, grid), k)
    whole = control_pairs(pairs, grid, shift).arrays()
    some = control_pairs(pairs.take(range(3 * k, 8 * k)), grid, shift).arrays()
    monkeypatch.setattr(controls, "_PAIRS_AT_ONCE", 3)
    cut = control_pairs(pairs, grid, shift).arrays()
    for name, values in whole.items():
        assert np.array_equal(cut[name], values, equal_nan=True), name
        assert np.array_equal(some[name], values[3 * k : 8 * k], equal_nan=True), name


def test_a_peak_glued_to_a_corner_has_a_position_control_and_no_score():
    grid, shift, k = 14, 2, 16
    maps = np.zeros((2 * k, grid, grid), np.float32)
    maps[:k, 0, 0], maps[k:, -1, -1] = 2.0, 2.0
    table, found = gather(make_pairs(maps, maps, k), grid, shift, k, k // 2)
    assert np.isnan(table.cds).all()
    assert found.position_control.tolist() == [0.0, 0.0]
    assert found.position_pairs.tolist() == [k, k]
    for name in ("cds_null", "cds_calibrated", "retained_disagrees", "cds_even", "entropy"):
        assert np.isnan(getattr(found, name)).all(), name


def test_without_a_shift_nothing_moves_but_the_null():
    grid, k = 6, 4
    maps = random_maps(7, 6 * k, grid)
    maps[:, 3, 3] += 1.0
    table, found = gather(make_pairs(maps, maps, k), grid, 0, k, 2)
    assert (table.cds == 0).all()
    assert (found.position_control == 0).all()
    assert (found.cds_null > 0).all()
    assert (found.cds_calibrated == 0).all()
    assert (found.jensen_shannon == 0).all()


def test_unrelated_peaks_are_calibrated_to_one_and_moving_ones_to_nothing():
    rng = np.random.default_rng(8)
    grid, shift, k, features = 12, 2, 16, 60
    first, second = np.zeros((2, features * k, grid, grid), np.float32)
    for pair in range(features * k):
        row, column = rng.integers(shift, grid, 2)
        first[pair, row, column] = 1.0
        if pair < features * k // 2:  # the same pixels in the second crop
            second[pair, row - shift, column - shift] = 1.0
        else:
            second[pair, *rng.integers(0, grid - shift, 2)] = 1.0
    _, found = gather(make_pairs(first, second, k), grid, shift, k, k // 2)
    assert (found.cds_calibrated[: features // 2] == 0).all()
    np.testing.assert_allclose(found.position_control[: features // 2], shift / (grid - 1), rtol=1e-12)
    assert found.cds_calibrated[features // 2 :].mean() == pytest.approx(1.0, abs=0.05)


def test_maps_that_cannot_move_are_not_calibrated():
    even = np.ones((8, 6, 6), np.float32)
    table, found = gather(make_pairs(even, even, 4), 6, 1, 4, 2)
    assert (table.cds == 0).all()
    assert (found.cds_null == 0).all()
    assert np.isnan(found.cds_calibrated).all()


def test_pairs_with_one_empty_map_count_as_one_under_every_floor_but_are_not_calibrated():
    """Four pairs stay in the crop and two are gone from one; of the last of them a floor takes the overlap's rest."""
    grid, shift, k = 8, 1, 6
    first, second = np.zeros((2, k, grid, grid), np.float32)
    for pair, (row, column) in enumerate([(2, 2), (6, 6), (2, 6), (5, 3), (4, 4), (3, 5)]):
        first[pair, row, column], second[pair, row, column] = 1.0, 1.0
    second[3:5] = 0.0
    first[5, 0, 0] = 8.0  # outside of the overlap, and eight times what is on it
    pairs = make_pairs(first, second, k)
    largest = float(patch_distances(grid - shift).max())
    scores, moved = score_pairs(pairs, grid, shift), 2**0.5 / largest
    for empty_as, cds, floored in (
        ("leave-out", moved, [moved] * 3),
        ("one", (4 * moved + 2) / 6, [(4 * moved + 2) / 6] + [(3 * moved + 3) / 6] * 2),
    ):
        table = score_features(scores, pairs.feature, 1, 3, empty_as=empty_as)
        found = control_pairs(pairs, grid, shift, floored=np.ones(k, np.bool_), empty_as=empty_as)
        features = control_features(found, scores, table, pairs.feature, pairs.rank, k, 3, largest, empty_as)
        assert table.cds[0] == pytest.approx(cds)
        assert features.cds_by_floor[0] == pytest.approx(floored)
        assert features.cds_calibrated[0] == pytest.approx(moved / features.cds_null[0])


def test_no_pairs():
    found = control_pairs(make_pairs(np.zeros((0, 4, 4)), np.zeros((0, 4, 4)), 1), 4, 1)
    assert all(len(values) == 0 for values in found.arrays().values())
    assert {field.name for field in fields(found.companions)} <= set(found.arrays())
