"""Scores against their definitions (POT, scipy, plain loops) and the exact facts of the method, section 3."""

from dataclasses import fields

import numpy as np
import ot
import pytest
from scipy.spatial.distance import cosine
from scipy.stats import entropy

from infoscope.errors import InfoscopeError
from infoscope.scope import score
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import MapPairs, SparseMaps
from infoscope.scope.score import FeatureScores, PairScores, score_features, score_maps, score_pairs


def make_pairs(first: np.ndarray, second: np.ndarray, per_feature: int = 1, ranking: float = 4.0) -> MapPairs:
    """Dense maps ``[pair, row, column]`` of both crops, ``per_feature`` pairs to each feature."""
    count, cells = len(first), first.shape[1] * first.shape[2]
    feature, rank = np.divmod(np.arange(count), per_feature)
    return MapPairs(
        feature=feature.astype(np.uint32),
        rank=rank.astype(np.uint16),
        image=np.arange(count, dtype=np.uint64),
        score=np.full(count, ranking, np.float32),
        first=SparseMaps.from_dense(first.reshape(count, cells)),
        second=SparseMaps.from_dense(second.reshape(count, cells)),
    )


def random_maps(seed: int, count: int, grid: int) -> np.ndarray:
    """Codes of about a fifth of the patches; every seventh map is empty."""
    rng = np.random.default_rng(seed)
    maps = np.where(rng.random((count, grid, grid)) < 0.2, rng.gamma(2.0, 1.0, (count, grid, grid)), 0.0)
    maps[rng.integers(0, 7, count) == 0] = 0.0
    return maps.astype(np.float32)


def slow_score(first: np.ndarray, second: np.ndarray, shift: int, metric: str, reference: float) -> list[float]:
    """One pair's scores from dense maps, in the order of `PairScores`."""
    grid = len(first)
    left = first[shift:, shift:].ravel().astype(np.float64)
    right = second[: grid - shift, : grid - shift].ravel().astype(np.float64)
    centres = np.argwhere(np.ones((grid - shift, grid - shift))).astype(np.float64)
    ground = ot.dist(centres, metric="euclidean" if metric == "euclidean" else "cityblock")
    masses = left.sum(), right.sum()
    retention = min(left.max(), right.max()) / reference
    if min(masses) == 0:
        ratio = 0.0 if max(masses) > 0 else np.nan
        return [np.nan, *masses, retention, np.nan, np.nan, ratio]
    emd = ot.emd2(left / masses[0], right / masses[1], ground) / ground.max()
    area = (np.exp(entropy(left)) + np.exp(entropy(right))) / 2
    return [emd, *masses, retention, area, cosine(left, right), min(masses) / max(masses)]


@pytest.mark.parametrize(("grid", "shift"), [(5, 0), (6, 1), (8, 2), (9, 7)])
@pytest.mark.parametrize("metric", ["euclidean", "l1"])
def test_pairs_score_as_defined(grid, shift, metric):
    first, second = random_maps(1, 40, grid), random_maps(2, 40, grid)
    scores = score_pairs(make_pairs(first, second), grid, shift, metric)
    expected = np.array([slow_score(a, b, shift, metric, 4.0) for a, b in zip(first, second, strict=True)])
    for field, column in zip(fields(PairScores), expected.T, strict=True):
        np.testing.assert_allclose(getattr(scores, field.name), column, rtol=1e-9, atol=1e-9, err_msg=field.name)


def test_scores_do_not_depend_on_the_blocks(monkeypatch):
    pairs = make_pairs(random_maps(3, 30, 7), random_maps(4, 30, 7))
    whole = score_pairs(pairs, 7, 2)
    monkeypatch.setattr(score, "_DENSE_CELLS", 4 * 49)
    parts = score_pairs(pairs, 7, 2)
    for field in fields(PairScores):
        assert np.array_equal(getattr(whole, field.name), getattr(parts, field.name), equal_nan=True), field.name


def test_retention_divides_by_the_reference():
    maps = np.zeros((3, 4, 4), np.float32)
    maps[0, 2, 2], maps[1, 0, 0], maps[2, 1, 1] = 3.0, 5.0, 1.0
    pairs = make_pairs(maps, maps, ranking=6.0)
    # Only row 2, column 2 of the first map lies on the overlap of both crops; the others' peaks leave one.
    assert score_pairs(pairs, 4, 1).retention.tolist() == [0.5, 0.0, pytest.approx(1 / 6)]
    assert score_pairs(pairs, 4, 1, reference=pairs.peak()).retention.tolist() == [1.0, 0.0, 1.0]
    assert score_pairs(pairs, 4, 1, reference=np.zeros(3, np.float32)).retention.tolist() == [0.0, 0.0, 0.0]


def test_no_pairs_give_no_scores():
    scores = score_pairs(make_pairs(np.zeros((0, 4, 4)), np.zeros((0, 4, 4))), 4, 1)
    assert all(len(getattr(scores, field.name)) == 0 for field in fields(PairScores))
    features = score_features(scores, np.array([], np.uint32), n_features=3, min_pairs=1)
    assert features.pairs.tolist() == [0, 0, 0]
    for field in fields(FeatureScores):
        if field.name != "pairs":
            assert np.isnan(getattr(features, field.name)).tolist() == [True] * 3, field.name


@pytest.mark.parametrize("shift", [-1, 3])
def test_a_shift_without_overlap_is_refused(shift):
    with pytest.raises(InfoscopeError, match=f"shift {shift} leaves no overlap on 4 x 4 patches: choose 0 to 2"):
        score_pairs(make_pairs(np.ones((1, 4, 4)), np.ones((1, 4, 4))), 4, shift)


def test_maps_of_another_grid_are_refused():
    with pytest.raises(InfoscopeError, match="maps of 16 and 16 patches are not on a grid of 5 x 5"):
        score_pairs(make_pairs(np.ones((1, 4, 4)), np.ones((1, 4, 4))), 5, 1)


# The facts of the method, section 3.


def test_without_a_shift_every_feature_scores_exactly_0():
    maps = random_maps(5, 60, 6)
    pairs = make_pairs(maps, maps, per_feature=4)
    scores = score_pairs(pairs, 6, 0)
    filled = maps.reshape(60, 36).any(axis=1)
    assert np.all(scores.emd[filled] == 0)
    assert np.all(scores.cosine_distance[filled] == 0)
    assert np.all(scores.mass_ratio[filled] == 1)
    table = score_features(scores, pairs.feature, n_features=15, min_pairs=1)
    assert table.pairs.sum() == filled.sum()
    assert np.all(table.cds[table.pairs > 0] == 0)
    assert np.all(table.cds_ci_upper[table.pairs > 1] == 0)
    assert np.all(table.vanished == 0)


@pytest.mark.parametrize("metric", ["euclidean", "l1"])
def test_a_peak_glued_to_one_position_moves_by_the_shift_or_vanishes(metric):
    grid, shift = 14, 2
    maps = np.eye(grid * grid).reshape(-1, grid, grid)
    pairs = make_pairs(maps, maps)
    table = score_features(score_pairs(pairs, grid, shift, metric), pairs.feature, grid * grid, min_pairs=1)
    row, column = np.divmod(np.arange(grid * grid), grid)
    inner = np.minimum(row, column) >= shift
    outer = np.maximum(row, column) <= grid - shift - 1
    np.testing.assert_allclose(table.cds[inner & outer], shift / (grid - shift - 1), rtol=1e-12)
    assert table.cds[5 * grid + 7].round(3) == 0.182
    assert np.isnan(table.cds[~(inner & outer)]).all()
    assert np.array_equal(table.vanished == 1, inner ^ outer)
    assert table.vanished[[0, -1]].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("side", "mean"), [(10, 0.4075), (12, 0.4008), (13, 0.3982), (14, 0.3960)])
def test_independent_single_patch_maps_average_as_stated(side, mean):
    cells = side * side
    first, second = np.divmod(np.arange(cells * cells), cells)
    single = SparseMaps.from_dense(np.eye(cells))
    scores = score_maps(single.take(first), single.take(second), patch_distances(side), np.ones(cells * cells))
    assert scores.emd.mean() == pytest.approx(mean, abs=5e-5)


# From pairs to features.


def random_scores(seed: int, count: int) -> PairScores:
    """Scores of pairs of which some have one map empty and some both."""
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, count)) * (rng.random((2, count)) > 0.2)
    both = np.minimum(first, second) > 0
    return PairScores(
        emd=np.where(both, rng.beta(1, 6, count), np.nan),
        mass_first=first,
        mass_second=second,
        retention=np.where(both, rng.random(count), 0.0),
        effective_area=np.where(both, rng.uniform(1, 30, count), np.nan),
        cosine_distance=np.where(both, rng.random(count), np.nan),
        mass_ratio=np.where(np.maximum(first, second) > 0, rng.random(count), np.nan),
    )


def mean_or_nan(values: np.ndarray, least: int = 1) -> float:
    return float(values.mean()) if len(values) >= least else np.nan


@pytest.mark.parametrize("empty_as", ["leave-out", "one"])
def test_features_gather_their_pairs_as_defined(empty_as):
    scores = random_scores(6, 200)
    feature = np.sort(np.random.default_rng(7).integers(0, 40, 200)).astype(np.uint32)
    table = score_features(scores, feature, n_features=42, min_pairs=3, empty_as=empty_as)
    for j in range(42):
        own = feature == j
        first, second = scores.mass_first[own] > 0, scores.mass_second[own] > 0
        both, one = first & second, first ^ second
        emd = scores.emd[own].copy()
        emd[one] = 1.0 if empty_as == "one" else np.nan
        valid = ~np.isnan(emd)
        kept = valid & (scores.retention[own] >= 0.5)
        expected = {
            "cds": mean_or_nan(emd[valid], 3),
            "pairs": valid.sum(),
            "vanished": mean_or_nan(one),
            "retention": mean_or_nan(scores.retention[own]),
            "cds_retained": mean_or_nan(emd[kept], 3),
            "effective_area": mean_or_nan(scores.effective_area[own][both]),
            "cosine_distance": mean_or_nan(scores.cosine_distance[own][both]),
            "mass_ratio": mean_or_nan(scores.mass_ratio[own][both]),
        }
        for name, value in expected.items():
            assert getattr(table, name)[j] == pytest.approx(value, rel=1e-12, nan_ok=True), (j, name)


def test_the_interval_is_null_where_cds_is_and_holds_it_elsewhere():
    scores = random_scores(8, 300)
    feature = (np.arange(300) // 15).astype(np.uint32)
    table = score_features(scores, feature, n_features=20, min_pairs=10)
    scored = ~np.isnan(table.cds)
    assert 0 < scored.sum() < 20
    assert np.array_equal(scored, table.pairs >= 10)
    assert np.array_equal(scored, ~np.isnan(table.cds_ci_lower))
    assert np.array_equal(scored, ~np.isnan(table.cds_ci_upper))
    assert np.all(table.cds_ci_lower[scored] < table.cds[scored])
    assert np.all(table.cds[scored] < table.cds_ci_upper[scored])


def test_a_feature_scores_the_same_whichever_others_are_measured():
    scores = random_scores(9, 160)
    feature = (np.arange(160) // 8).astype(np.uint32)
    whole = score_features(scores, feature, n_features=20, min_pairs=4)
    own = np.isin(feature, [3, 11])
    part = PairScores(**{field.name: getattr(scores, field.name)[own] for field in fields(PairScores)})
    alone = score_features(part, np.where(feature[own] == 3, 1, 0).astype(np.uint32), n_features=2, min_pairs=4)
    for field in fields(FeatureScores):
        expected = getattr(whole, field.name)[[11, 3]]
        assert np.array_equal(getattr(alone, field.name), expected, equal_nan=True), field.name


def test_a_feature_beyond_the_dictionary_is_refused():
    with pytest.raises(ValueError, match="feature, 5, is not below 5"):
        score_features(random_scores(10, 1), np.array([5], np.uint32), n_features=5, min_pairs=1)
