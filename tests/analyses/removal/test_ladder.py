"""Sets of a ladder: of equal energy, disjoint, the same again by seed, and where there are none, that is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infoscope.analyses.removal.config import STEPS
from infoscope.analyses.removal.groups import FeatureGroup, matched_groups
from infoscope.analyses.removal.ladder import TOLERANCE, build_ladder
from infoscope.analyses.removal.removed import RemovedCodes

pytestmark = pytest.mark.slow


def removed_of(codes, decoder, scale=None, mean=None):
    """Dense codes ``[token, feature]`` as what a removal takes out."""
    scale = np.ones(len(codes)) if scale is None else scale
    start = np.concatenate([[0], np.cumsum((codes != 0).sum(1))])
    feature = np.nonzero(codes)[1].astype(np.int32)
    value = (codes * scale[:, None])[codes != 0]
    mean = np.zeros(codes.shape[1]) if mean is None else mean
    return RemovedCodes(start, feature, value, decoder.astype(np.float32), scale, mean)


def drawn_codes(random, tokens=300, features=120, width=16, dominant=1.0, means=False):
    """Sparse codes of very different sizes, of which a few features dominate."""
    codes = random.random((tokens, features)) * (
        random.random((tokens, features)) < random.uniform(0.02, 0.2, features)
    )
    codes *= random.lognormal(0, 1, features)
    codes[:, random.choice(features, 3, replace=False)] *= dominant
    mean = codes.mean(0) if means else None
    return removed_of(codes, random.standard_normal((features, width)), random.uniform(0.5, 2, tokens), mean)


def group_of(features):
    return FeatureGroup("mine", "list", np.sort(np.array(features)).astype(np.uint32))


def dense_energy(removed, features):
    """By its definition."""
    codes = np.zeros((len(removed), len(removed.decoder)))
    codes[np.repeat(np.arange(len(removed)), np.diff(removed.start)), removed.feature] = removed.value
    codes -= np.outer(removed.scale, removed.mean)
    taken = codes[:, features] @ removed.decoder[features].astype(np.float64)
    return (taken**2).sum(1).mean()


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6), st.sampled_from([1.0, 5.0, 30.0]), st.booleans(), st.floats(0.1, 0.9))
def test_sets_are_within_two_per_cent_disjoint_and_different(seed, dominant, means, share):
    random = np.random.default_rng(seed)
    removed = drawn_codes(random, dominant=dominant, means=means)
    features = len(removed.decoder)
    group = group_of(random.choice(features, int(share * features), replace=False))
    square = dense_energy(removed, np.arange(features))
    ladder = build_ladder(removed, group, square, draws=3)
    seen = {(each.step, each.side) for each in ladder.sets}
    unfair = {each.step for each in ladder.unfair}
    assert {step for step, _ in seen}.isdisjoint(unfair)
    assert {step for step, _ in seen} | unfair == set(STEPS)
    for each in ladder.sets:
        assert (each.step, "subset") in seen
        assert (each.step, "disjoint") in seen
        energy = dense_energy(removed, each.features)
        assert each.energy == pytest.approx(energy, rel=1e-9)
        assert abs(energy / (each.step * square) - 1) <= TOLERANCE
        assert np.isin(each.features, group.features).all() == (each.side == "subset")
        assert np.isin(each.features, group.features).any() == (each.side == "subset")
        assert (np.diff(each.features.astype(int)) > 0).all()
    assert len({(each.step, each.features.tobytes()) for each in ladder.sets}) == len(ladder.sets)
    for each in ladder.unfair:
        assert abs(each.reached / each.step - 1) > TOLERANCE or each.sets == 1


def test_the_seed_and_the_group_decide_and_the_number_of_draws_does_not():
    removed = drawn_codes(np.random.default_rng(1))
    square = removed.energy(np.arange(120))
    group = group_of(range(60))

    def sets(seed=0, draws=3, of=group):
        ladder = build_ladder(removed, of, square, seed=seed, draws=draws, steps=(0.05, 0.1))
        return {(each.step, each.side, each.draw): each.features.tolist() for each in ladder.sets}

    first = sets()
    assert len(first) == 12
    assert sets() == first
    assert sets(draws=2) == {key: features for key, features in first.items() if key[2] <= 2}
    for other in (sets(seed=1), sets(of=group_of(range(61)))):
        assert not [key for key in other if other[key] == first.get(key)]


def test_a_step_that_a_side_cannot_reach_is_named_with_what_could_be():
    codes = np.eye(20)  # each feature is active on one token of its own, so that energies add up
    removed = removed_of(codes, np.eye(20))
    group = group_of(range(16))
    ladder = build_ladder(removed, group, 1.0, steps=(0.1, 0.3), draws=2)
    assert {each.step for each in ladder.sets} == {0.1}
    (unfair,) = ladder.unfair
    assert (unfair.group, unfair.step, unfair.side, unfair.sets) == ("mine", 0.3, "disjoint", 0)
    assert unfair.reached == pytest.approx(4 / 20)
    assert str(unfair) == "no fair control at 30%: sets disjoint from mine come no nearer than 20.0%"


def test_a_dominant_feature_is_no_small_step():
    codes = np.full((10, 1), 3.0)
    removed = removed_of(np.hstack([codes, np.eye(10)]), np.eye(11))
    ladder = build_ladder(removed, group_of([0]), 18.0, steps=(0.05, 0.5), draws=8)
    # Nine on every token: half of the mean square, and one feature makes one set.
    assert [(each.step, each.side) for each in ladder.unfair if each.side == "subset"] == [
        (0.05, "subset"),
        (0.5, "subset"),
    ]
    first, second = (each for each in ladder.unfair if each.side == "subset")
    assert (first.reached, first.sets) == (0.0, 0)
    assert (second.reached, second.sets) == (0.5, 1)
    assert str(second) == "no fair control at 50%: subsets of mine reach it with one set alone"


def test_features_that_take_nothing_out_are_in_no_set():
    codes = np.eye(12)
    codes[:, 8:] = 0
    removed = removed_of(codes, np.eye(12))
    ladder = build_ladder(removed, group_of([0, 1, 2, 3, 8, 9]), removed.energy(np.arange(12)), steps=(0.25,), draws=4)
    assert not ladder.unfair
    assert max(feature for each in ladder.sets for feature in each.features) < 8
    assert {len(each.features) for each in ladder.sets} == {2}
    empty = build_ladder(removed, group_of([8, 9]), 1.0, steps=(0.25,), draws=4)
    assert [(each.side, each.reached) for each in empty.unfair] == [("subset", 0.0)]


def test_random_groups_of_equal_mass_are_biased_where_the_ladder_is_not():
    """Two kinds of features matter equally for what they take out; one kind fires together, the other apart.

    Half of the coordinates are read, and the damage is the squared length that they lose. Either kind loses half of its
    squared length there, so that neither matters more. Codes that fall on the same tokens along one direction add up,
    so that a random group of equal mass, which has features of both kinds, does less damage all the same.
    """
    random = np.random.default_rng(0)
    tokens, count, width = 2000, 60, 64
    together = (random.random(tokens) < 0.05)[:, None] * random.uniform(1, 3, (tokens, count))
    apart = (random.random((tokens, count)) < 0.05) * random.uniform(1, 3, (tokens, count))
    decoder = random.standard_normal((2 * count, width // 2)).repeat(2, axis=1) / 8
    decoder[:count] = 0.5 * decoder[:count] + 0.5 * decoder[0]
    removed = removed_of(np.hstack([together, apart]), decoder)
    mean_square = removed.energy(np.arange(2 * count))

    def damage(features):
        return (removed.vectors(features)[:, ::2] ** 2).sum(1).mean()

    group = group_of(range(count))
    mass = np.hstack([together, apart]).mean(0) * np.linalg.norm(decoder, axis=1)
    by_mass = [damage(drawn.features) for drawn in matched_groups(group, mass, "mass", 8)]
    assert np.mean(by_mass) < 0.7 * damage(group.features)
    ladder = build_ladder(removed, group, mean_square, steps=(0.02, 0.05))
    assert not ladder.unfair
    for step in (0.02, 0.05):
        subsets, disjoint = (
            [each.features for each in ladder.sets if (each.step, each.side) == (step, side)]
            for side in ("subset", "disjoint")
        )
        ours, theirs = (np.array([damage(features) for features in sets]) for sets in (subsets, disjoint))
        assert len(ours) == len(theirs) == 8
        assert np.mean(ours - theirs) == pytest.approx(0, abs=TOLERANCE * np.mean(ours))
        # The same damage by fewer features, and by less mass.
        assert np.mean([mass[features].sum() for features in subsets]) < 0.9 * np.mean(
            [mass[features].sum() for features in disjoint]
        )
