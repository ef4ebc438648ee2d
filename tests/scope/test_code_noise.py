"""Chances of code noise, and the distances that they make, against cases worked by hand and worlds of known noise."""

from dataclasses import replace

import numpy as np
import pytest

from infoscope.scope.code_noise import CodeNoise, over_draws, simulate_noise
from infoscope.scope.controls import control_features, control_pairs
from infoscope.scope.geometry import Geometry, patch_distances
from infoscope.scope.maps import MapPairs, Overlaps, SparseMaps
from infoscope.scope.noise_counts import NoiseCounts
from infoscope.scope.score import score_features, score_pairs

P, S, K = 14, 2, 16
SIDE = P - S
GROUND = patch_distances(SIDE) / patch_distances(SIDE).max()


def imitated(pairs, noise, **options):
    """Mean and variance of the distance to noisy copies, as shares of D."""
    (distances,) = simulate_noise(pairs, Overlaps.of(pairs, P, S), noise, P, S, [GROUND], **options)
    return over_draws(distances)


def rows(dense):
    token, feature = np.nonzero(dense)
    start = np.searchsorted(token, np.arange(len(dense) + 1))
    return start, feature.astype(np.int32), dense[token, feature].astype(np.float32)


def as_pairs(first, second, top_images=K):
    """Dense maps ``[feature, rank, cell]`` as pairs."""
    features = len(first)
    return MapPairs(
        np.repeat(np.arange(features), top_images).astype(np.uint32),
        np.tile(np.arange(top_images), features).astype(np.uint16),
        np.zeros(features * top_images, np.uint64),
        np.ones(features * top_images, np.float32),
        SparseMaps.from_dense(first.reshape(-1, P * P)),
        SparseMaps.from_dense(second.reshape(-1, P * P)),
    )


def blobs(rng, count, side):
    """Square blobs at random places of a ``side`` x ``side`` picture, ``[map, row, column]``."""
    maps = np.zeros((count, side, side))
    for one in maps:
        top, left = rng.integers(0, side - 3, 2)
        one[top : top + 4, left : left + 4] = rng.lognormal(0.0, 0.2, (4, 4))
    return maps


def reading(rng, maps, kept):
    """What one encoding shows of maps whose codes drop out one by one."""
    return maps * (rng.random(maps.shape) < kept) * rng.lognormal(0.0, 0.05, maps.shape)


def crops(pictures):
    """Both crops of pictures of P + S patches a side, ``[picture, cell]``."""
    return [pictures[:, at : at + P, at : at + P].reshape(len(pictures), -1) for at in (0, S)]


def measured(rng, draw, features=12, views=60):
    """The code noise of a world: ``draw(feature)`` gives two readings ``[row, column]`` of one view.

    It is that of a typical feature; `CodeNoise.stays` and the like would be of these features alone.
    """
    return replace(measured_each(rng, draw, features, views), stays=(), beside=(), apart=())


def measured_each(rng, draw, features=12, views=60):
    """The same with each feature's own rates."""
    counts = NoiseCounts.empty(features)
    for _ in range(views):
        both = [draw(feature) for feature in range(features)]
        clean, noisy = (np.stack([pair[which].ravel() for pair in both], 1) for which in (0, 1))
        counts.add(rows(clean), rows(noisy), P, np.arange(features), np.ones(features), True)
    return CodeNoise.of_counts(counts, (1.0,), "token", 2.0)


def excess(pairs, noise, features):
    """CDS, the CDS of code noise, and the excess of each feature."""
    scores, controls = score_pairs(pairs, P, S), control_pairs(pairs, P, S, noise=noise)
    table = score_features(scores, pairs.feature, features, min_pairs=8)
    found = control_features(controls, scores, table, pairs.feature, pairs.rank, K, 8, Geometry(P, S).largest)
    return table.cds, found.cds_noise, found.cds_excess


def with_chances(lost=0.0, appears=0.0):
    none = CodeNoise.none()
    bins = len(none.born)
    return replace(
        none,
        lost=replace(none.lost, typical=(lost,) * bins),
        appears=tuple((appears,) * len(row) for row in none.appears),
        born=(0.0,) * 48 + (1.0,) + (0.0,) * (bins - 49),
    )


def test_without_noise_nothing_moves():
    rng = np.random.default_rng(0)
    first, second = crops(blobs(rng, K, P + S))
    pairs = as_pairs(first[None], second[None])
    mean, variance = imitated(pairs, CodeNoise.none())
    valid = ~np.isnan(score_pairs(pairs, P, S).emd)
    assert valid.sum() > 8
    assert np.array_equal(~np.isnan(mean), valid)
    assert not mean[valid].any()
    assert not variance[valid].any()


def test_two_places_that_drop_out_half_of_the_time():
    """Of copies with any mass, one in three is whole, and of the others half of the mass lies d away: d/3, d^2/18."""
    maps = np.zeros((1, 2000, P, P))
    maps[0, :, 4, 4] = maps[0, :, 4, 9] = 1.0
    pairs = as_pairs(maps, maps, 2000)
    mean, variance = imitated(pairs, with_chances(lost=0.5))
    largest = 2**0.5 * (SIDE - 1)
    # Shares of pairs: by chance two of eight copies at least have mass in nearly all.
    assert np.isnan(mean).mean() < 0.001
    assert np.nanmean(mean) == pytest.approx(5 / 3 / largest, rel=0.03)
    assert np.nanmean(variance) == pytest.approx(25 / 18 / largest**2, rel=0.03)


def test_a_code_that_appears_everywhere_spreads_the_mass_evenly():
    """All other cells get a code of the same size within a quarter octave, so the centre's mass goes everywhere."""
    maps = np.zeros((1, 1, P, P))
    maps[0, 0, 6, 6] = 2 ** (1 / 8)
    mean, _ = imitated(as_pairs(maps, maps, 1), with_chances(appears=1.0))
    row, column = np.divmod(np.arange(SIDE**2), SIDE)
    centres = ((6 - S, 6 - S), (6, 6))  # of the overlap, in the two crops
    wanted = np.mean([np.hypot(row - y, column - x).mean() for y, x in centres]) / (2**0.5 * (SIDE - 1))
    assert mean[0] == pytest.approx(wanted, rel=0.02)


def test_a_pair_depends_on_nothing_but_itself():
    rng = np.random.default_rng(1)
    first, second = crops(blobs(rng, 5 * K, P + S))
    pairs = as_pairs(first.reshape(5, K, -1), second.reshape(5, K, -1))
    noise = with_chances(lost=0.3, appears=0.01)
    whole = imitated(pairs, noise)
    index = np.array([3, 17, 18, 60])
    some = imitated(pairs.take(index), noise)
    for ours, theirs in zip(whole, some, strict=True):
        assert np.array_equal(ours[index], theirs, equal_nan=True)
    again = imitated(pairs, noise, seed=1)
    assert not np.array_equal(whole[0], again[0], equal_nan=True)


def test_local_features_that_drop_out_have_no_excess_in_a_world_of_such():
    rng = np.random.default_rng(2)
    features = 60

    def draw(_):
        view = blobs(rng, 1, P + S)[0, :P, :P]
        return reading(rng, view, 0.5), reading(rng, view, 0.5)

    noise = measured(rng, draw)
    pictures = blobs(rng, features * K, P + S)
    first, second = reading(rng, pictures[:, :P, :P], 0.5), reading(rng, pictures[:, S:, S:], 0.5)
    pairs = as_pairs(first.reshape(features, K, -1), second.reshape(features, K, -1))
    cds, alone, over = excess(pairs, noise, features)
    assert cds.mean() > 0.05
    assert alone.mean() == pytest.approx(cds.mean(), rel=0.1)
    # 5 % are expected above the 95 % point; 15 % of 60 would come by chance once in 300 worlds.
    assert (over > 0).mean() < 0.15


def test_parked_features_have_excess_though_they_jump_under_pixel_noise_too():
    rng = np.random.default_rng(3)
    features = 20

    def draw(feature):
        view = blobs(rng, 1, P + S)[0, :P, :P]
        if feature < 3:  # of twelve, parked: a new place in each encoding
            return view, blobs(rng, 1, P + S)[0, :P, :P]
        return reading(rng, view, 0.95), reading(rng, view, 0.95)

    noise = measured(rng, draw)
    assert max(np.array(noise.lost.pooled)[np.array(noise.lost.count) > 100]) > 0.2
    first, second = blobs(rng, features * K, P + S)[:, :P, :P], blobs(rng, features * K, P + S)[:, S:, S:]
    pairs = as_pairs(first.reshape(features, K, -1), second.reshape(features, K, -1))
    cds, alone, over = excess(pairs, noise, features)
    assert alone.max() < 0.1
    assert over.min() > 0.1
    assert np.all(over < cds - alone)


def test_each_feature_has_the_noise_of_its_own_codes():
    """Half of the features drop out at one rate, half at another: each one's imitation follows its own."""
    rng = np.random.default_rng(6)
    kept = np.repeat([0.95, 0.5], 12)

    def draw(feature):
        view = blobs(rng, 1, P + S)[0, :P, :P]
        return reading(rng, view, kept[feature]), reading(rng, view, kept[feature])

    noise = measured_each(rng, draw, features=24)
    pictures = blobs(rng, 24 * K, P + S).reshape(24, K, P + S, P + S)
    shape, of_each = (24, K, -1), list(zip(pictures, kept, strict=True))
    each = [np.stack([reading(rng, own[:, at : at + P, at : at + P], rate) for own, rate in of_each]) for at in (0, S)]
    pairs = as_pairs(*(crop.reshape(shape) for crop in each))
    cds, alone, over = excess(pairs, noise, 24)
    _, by_typical, _ = excess(pairs, replace(noise, stays=(), beside=(), apart=()), 24)
    for half in (slice(0, 12), slice(12, 24)):
        assert alone[half].mean() == pytest.approx(cds[half].mean(), rel=0.4)
    # What is typical of both halves is wrong for either.
    assert by_typical[:12].mean() > 1.5 * cds[:12].mean()
    assert by_typical[12:].mean() < 0.8 * cds[12:].mean()
    assert (over > 0).mean() < 0.25


def test_two_ground_distances_see_the_same_copies():
    maps = np.zeros((1, 50, P, P))
    maps[0, :, 4, 4] = maps[0, :, 4, 9] = 1.0
    pairs = as_pairs(maps, maps, 50)
    one, half = simulate_noise(pairs, Overlaps.of(pairs, P, S), with_chances(lost=0.5), P, S, [GROUND, GROUND / 2])
    assert half == pytest.approx(one / 2, abs=1e-12, nan_ok=True)


def test_the_typical_chance_is_not_moved_by_a_minority():
    counts = NoiseCounts.empty(10)
    counts.codes[:, 40], counts.lost[:, 40] = 100, [10] * 7 + [100] * 3
    counts.codes[:, 50], counts.lost[:, 50] = 10, 1  # too few of each
    noise = CodeNoise.of_counts(counts, (1.0,), "token", 2.0)
    assert noise.lost.pooled[40] == pytest.approx(0.37)
    assert noise.lost.typical[40] == pytest.approx(0.1)
    assert noise.lost.typical[50] == noise.lost.pooled[50] == pytest.approx(0.1)
    assert np.isnan(noise.lost.typical[10])


def test_the_spread_of_codes_that_stay_is_recovered():
    rng = np.random.default_rng(4)
    counts = NoiseCounts.empty(1)
    for _ in range(20):
        clean = rng.uniform(1.0, 2.0, (P * P, 1))
        counts.add(rows(clean), rows(clean * rng.lognormal(0, 0.1, clean.shape)), P, np.arange(1), np.ones(1), True)
    spread = CodeNoise.of_counts(counts, (1.0,), "token", 2.0).spread
    assert spread[12] == pytest.approx(0.1, abs=0.01)


def test_curves_outlive_json():
    noise = measured(np.random.default_rng(5), lambda _: 2 * [np.eye(P)], features=1, views=2)
    again = CodeNoise.from_json(noise.to_json())
    assert again.to_json() == noise.to_json()
    with pytest.raises(ValueError, match="number of bins"):
        CodeNoise.from_json(noise.to_json() | {"spread": [0.1]})
    for change in ({"scale": [None]}, {"spread": [None] * 24}):
        with pytest.raises(ValueError, match="null"):
            CodeNoise.from_json(noise.to_json() | change)
    with pytest.raises(ValueError, match=r"born\[0\] is 1\.5"):
        CodeNoise.from_json(noise.to_json() | {"born": [1.5] * 96})
    with pytest.raises(ValueError, match="scale is missing"):
        CodeNoise.from_json({name: value for name, value in noise.to_json().items() if name != "scale"})


def test_draws_that_do_not_halve_are_refused():
    maps = np.zeros((1, 1, P, P))
    with pytest.raises(ValueError, match="even"):
        imitated(as_pairs(maps, maps, 1), CodeNoise.none(), draws=3)
