"""Displaced shares against POT's exact transport, and by hand."""

from __future__ import annotations

import numpy as np
import ot
import pytest

from infoscope.scope.displacement import (
    CUT_OFF,
    LEAST_KEPT,
    PairDisplacement,
    cut_off,
    displace_features,
    displace_pairs,
)
from infoscope.scope.geometry import Geometry, patch_distances
from infoscope.scope.maps import MapPairs, Overlaps, SparseMaps

GRID, SHIFT = 8, 2
GEOMETRY = Geometry(GRID, SHIFT)


def pairs_of(first: np.ndarray, second: np.ndarray, feature: list[int], rank: list[int]) -> MapPairs:
    count = len(feature)
    maps = [SparseMaps.from_dense(m.reshape(count, GRID * GRID)) for m in (first, second)]
    numbers = np.array(feature, np.uint32), np.array(rank, np.uint16), np.arange(count, dtype=np.uint64)
    return MapPairs(*numbers, np.ones(count, np.float32), *maps)


def shares(**given: list[float]) -> PairDisplacement:
    """By default noise displaces nothing; what is given of it is the same in both copies of a pair."""
    count = len(next(iter(given.values())))
    names = ("pixels", "place", "unrelated", "half_unrelated", "noise")
    arrays = {name: np.array(given.get(name, [0.0] * count)) for name in names}
    noise = arrays.pop("noise")
    return PairDisplacement(**arrays, noise=np.stack([noise, noise], 1) if noise.ndim == 1 else noise)


def by_feature(of: PairDisplacement, feature: list[int] | None = None):
    own = np.zeros(len(of.pixels), np.uint32) if feature is None else np.array(feature, np.uint32)
    features = int(own.max()) + 1
    return displace_features(of, np.zeros(len(own), np.bool_), own, features, np.zeros(features))


def test_the_share_is_the_exact_transport_cost_under_the_cut_off_distance():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 12, GRID, GRID)) * (rng.random((2, 12, GRID, GRID)) < 0.2)
    pairs = pairs_of(first, second, [0] * 12, list(range(12)))
    found = displace_pairs(pairs, Overlaps.of(pairs, GRID, SHIFT), GEOMETRY)
    side = GRID - SHIFT
    overlap, full = (np.minimum(patch_distances(p), CUT_OFF) / CUT_OFF for p in (side, GRID))
    ours, theirs = first[:, SHIFT:, SHIFT:].reshape(12, -1), second[:, :side, :side].reshape(12, -1)

    def cost(a: np.ndarray, b: np.ndarray, distances: np.ndarray) -> float:
        return float(ot.emd2(a / a.sum(), b / b.sum(), distances))

    for m in range(12):
        after = (m + 1) % 12
        same_half = [n for n in range(12) if n % 2 == m % 2]
        half = same_half[(same_half.index(m) + 1) % len(same_half)]
        assert found.pixels[m] == pytest.approx(cost(ours[m], theirs[m], overlap), abs=1e-7)
        assert found.unrelated[m] == pytest.approx(cost(ours[m], theirs[after], overlap), abs=1e-7)
        assert found.half_unrelated[m] == pytest.approx(cost(ours[m], theirs[half], overlap), abs=1e-7)
        assert found.place[m] == pytest.approx(cost(first[m].ravel(), second[m].ravel(), full), abs=1e-7)


def test_a_patch_off_counts_half_and_two_count_in_full():
    line = cut_off("euclidean", 4)[0].reshape(4, 4)
    assert line[0].tolist() == [0.0, 0.5, 1.0, 1.0]
    assert line[1, 1] == pytest.approx(2**0.5 / 2)
    assert cut_off("l1", 4)[0].reshape(4, 4)[1, 1] == 1.0


def test_a_half_asks_only_its_own_images():
    of = shares(pixels=[0.1, 0.2], unrelated=[0.9, 0.8], half_unrelated=[0.5, 0.6])
    assert of.half(np.array([1])).unrelated.tolist() == [0.6]
    assert of.take(np.array([1])).unrelated.tolist() == [0.8]


def test_displacement_by_hand():
    of = shares(pixels=[0.3, 0.5], place=[1.0, 1.0], unrelated=[0.8, 1.0], noise=[0.1, 0.3])
    found = by_feature(of)
    # (0.4 - 0.2) / (0.9 - 0.2)
    assert found.displacement[0] == pytest.approx(0.2 / 0.7)
    assert (found.displaced[0], found.displaced_null[0], found.displaced_noise[0]) == pytest.approx((0.4, 0.9, 0.2))
    assert found.displacement_following[0] == pytest.approx(0.2 / 0.7)


def test_what_jumps_says_nothing_of_what_the_pairs_that_follow_keep():
    of = shares(pixels=[0.3, 0.5, 1.0], place=[1.0] * 3, unrelated=[0.8, 1.0, 0.9], noise=[0.1, 0.3, 0.2])
    found = by_feature(of)
    assert found.displacement[0] == pytest.approx((0.6 - 0.2) / (0.9 - 0.2))
    assert found.displacement_following[0] == pytest.approx(0.2 / 0.7)
    assert found.moves.jumping[0] == pytest.approx(1 / 3)


def test_pairs_that_follow_are_held_against_the_copies_that_would():
    """The border is at 0.72: of four copies of each pair one is beyond it, and would jump."""
    noise = [[0.1, 0.1, 0.4, 0.9]] * 4
    found = by_feature(shares(pixels=[0.4] * 4, place=[1.0] * 4, unrelated=[0.9] * 4, noise=noise))
    assert found.noise_jumps[0] == pytest.approx(0.25)
    assert found.displaced_noise[0] == pytest.approx(0.375)
    assert found.displacement[0] == pytest.approx((0.4 - 0.375) / (0.9 - 0.375))
    assert found.displacement_following[0] == pytest.approx((0.4 - 0.2) / (0.9 - 0.2))


@pytest.mark.parametrize("jumping", [0.0, 0.2, 0.4])
def test_what_noise_explains_leaves_no_displacement_however_much_of_it_jumps(jumping):
    """Pairs and their copies are drawn alike: a share jumps, the others displace 0.1 to 0.4."""
    rng = np.random.default_rng(2)
    pairs, features = 16, 1000

    def draw(*shape: int) -> np.ndarray:
        return np.where(rng.random(shape) < jumping, 0.95, rng.uniform(0.1, 0.4, shape))

    given = {"pixels": draw(pairs * features), "place": np.ones(pairs * features)}
    given |= {"unrelated": np.full(pairs * features, 0.9), "noise": draw(pairs * features, 8)}
    found = by_feature(shares(**given), np.repeat(np.arange(features), pairs).tolist())
    assert np.median(found.displacement_following) == pytest.approx(0.0, abs=0.01)
    assert found.noise_jumps.mean() == pytest.approx(jumping, abs=0.01)


def test_a_copy_without_mass_jumps():
    noise = [[0.1, float("nan")], [0.9, 0.1]]
    found = by_feature(shares(pixels=[0.4] * 2, place=[1.0] * 2, unrelated=[0.9] * 2, noise=noise))
    assert found.noise_jumps[0] == pytest.approx(0.5)


def test_where_every_copy_jumps_what_follows_displaces_no_more_than_noise():
    found = by_feature(shares(pixels=[0.4] * 3, place=[1.0] * 3, unrelated=[0.9] * 3, noise=[[0.8, 0.75]] * 3))
    assert np.isnan(found.displacement_following[0])  # hidden by noise
    assert found.noise_jumps[0] == 1.0


def test_one_pair_that_follows_is_too_few():
    of = shares(pixels=[0.3, 1.0, 1.0], place=[1.0] * 3, unrelated=[0.9] * 3)
    found = by_feature(of)
    assert np.isnan(found.displacement_following[0])
    assert not np.isnan(found.displacement[0])


def test_where_noise_displaces_nearly_as_much_as_other_pictures_nothing_is_said():
    assert np.isnan(
        by_feature(shares(pixels=[0.7] * 4, place=[1.0] * 4, unrelated=[0.9] * 4, noise=[0.75] * 4)).displacement[0]
    )
    assert not np.isnan(
        by_feature(shares(pixels=[0.7] * 4, place=[1.0] * 4, unrelated=[0.9] * 4, noise=[0.7] * 4)).displacement[0]
    )


@pytest.mark.parametrize("which", ["displacement", "displacement_following"])
def test_the_standard_error_is_what_repeats_scatter_by(which):
    rng = np.random.default_rng(1)
    pairs, features = 24, 4000
    pixels = rng.normal(0.4, 0.1, (features, pairs)).clip(0, 1)
    # The pairs that follow are held against the mean of unrelated pictures, whose own error is not counted.
    spread = 0.1 if which == "displacement" else 0.0
    unrelated = rng.normal(0.8, spread, (features, pairs)).clip(0, 1)
    feature = np.repeat(np.arange(features), pairs).tolist()
    given = {"pixels": pixels.ravel().tolist(), "place": [1.0] * pixels.size, "unrelated": unrelated.ravel().tolist()}
    found = by_feature(shares(**given), feature)
    assert np.median(getattr(found, f"{which}_error")) == pytest.approx(getattr(found, which).std(), rel=0.05)


@pytest.mark.parametrize(
    ("pixels", "place", "moves"),
    [
        (0.2, 0.9, "following"),
        (0.9, 0.2, "staying"),
        (0.2, 0.2, "still"),
        (0.2, 0.24, "still"),
        (0.2, 0.26, "following"),
        (0.71, 0.95, "following"),
        (0.73, 0.95, "jumping"),
        (0.88, 0.95, "jumping"),
        (float("nan"), 0.95, "jumping"),
        (float("nan"), 0.2, "staying"),
    ],
)
def test_how_a_pair_moves(pixels, place, moves):
    # The border: a fifth of the 0.9 that unrelated pictures displace is kept.
    assert pytest.approx(0.72) == 0.9 * (1 - LEAST_KEPT)
    of = shares(pixels=[0.9, 0.9, pixels], place=[0.95, 0.95, place], unrelated=[0.9, 0.9, 0.9])
    found = by_feature(of).moves
    others = 2 / 3 if moves == "jumping" else 0.0
    assert getattr(found, moves)[0] == pytest.approx(others + 1 / 3)
    assert found.judged[0] == 3


def test_a_pair_whose_noise_is_not_known_has_that_of_the_others():
    known = by_feature(shares(pixels=[0.4, 0.4], place=[1.0, 1.0], unrelated=[0.9, 0.9], noise=[0.2, 0.2]))
    partly = by_feature(shares(pixels=[0.4, 0.4], place=[1.0, 1.0], unrelated=[0.9, 0.9], noise=[0.2, float("nan")]))
    assert partly.displaced_noise.tolist() == known.displaced_noise.tolist()
    assert partly.displacement == pytest.approx(known.displacement)
    nowhere = by_feature(shares(pixels=[0.4, 0.4], place=[1.0, 1.0], unrelated=[0.9, 0.9], noise=[float("nan")] * 2))
    assert np.isnan(nowhere.displacement[0])


def test_even_maps_are_still():
    found = by_feature(shares(pixels=[0.0] * 3, place=[0.0] * 3, unrelated=[0.0] * 3)).moves
    assert found.still[0] == 1.0
    noisy = by_feature(shares(pixels=[0.12] * 3, place=[0.11] * 3, unrelated=[0.11] * 3)).moves
    assert noisy.jumping[0] == 0.0


def test_a_vanished_pair_jumps():
    nan = float("nan")
    of = shares(pixels=[0.1, 0.1, nan], place=[0.9, 0.9, nan], unrelated=[0.9, 0.9, nan])
    vanished, feature = np.array([False, False, True]), np.zeros(3, np.uint32)
    found = displace_features(of, vanished, feature, 1, np.zeros(1))
    assert found.moves.jumping[0] == found.moves.vanished[0] == pytest.approx(1 / 3)
    assert found.displaced[0] == pytest.approx(0.1)
