"""Random controls: matched as they say, drawn from all active features alike, and by themselves."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binomtest

from infoscope.analyses.removal.groups import FeatureGroup, matched_groups
from infoscope.errors import InfoscopeError

FEATURES = 500


@pytest.fixture
def mass():
    """Heavy-tailed, as activation mass is; every fifth feature never fires."""
    found = np.random.default_rng(0).lognormal(0, 2, FEATURES)
    found[::5] = 0
    return found


def group_of(*features):
    return FeatureGroup("mine", "list", np.array(features, np.uint32))


def test_by_size_as_many_active_features(mass):
    drawn = matched_groups(group_of(*range(30)), mass, "size", draws=8)
    assert [len(group.features) for group in drawn] == [24] * 8
    for group in drawn:
        assert (mass[group.features] > 0).all()
        assert (np.diff(group.features.astype(int)) > 0).all()
        assert (group.kind, group.features.dtype) == ("random", np.uint32)
    assert len({tuple(group.features) for group in drawn}) == 8


@pytest.mark.parametrize("count", [2, 30, 300])
def test_by_mass_within_half_of_one_features(mass, count):
    group = group_of(*range(count))
    wanted = mass[:count].sum()
    largest = mass[mass <= 2 * wanted].max()
    drawn = matched_groups(group, mass, "mass", draws=20)
    error = np.array([mass[one.features].sum() - wanted for one in drawn])
    assert (np.abs(error) <= largest / 2).all()
    assert all(len(one.features) for one in drawn)


def test_a_group_of_little_mass_is_not_matched_by_one_large_feature(mass):
    least = int(np.flatnonzero(mass > 0)[mass[mass > 0].argsort()[3]])
    for drawn in matched_groups(group_of(least), mass, "mass", draws=10):
        assert 0 < mass[drawn.features].sum() <= 2 * mass[least]


def test_a_group_of_nearly_all_mass(mass):
    largest = int(mass.argmax())
    rest = [feature for feature in range(FEATURES) if feature != largest]
    for group in (group_of(*range(FEATURES)), group_of(*rest)):
        wanted = mass[group.features].sum()
        for drawn in matched_groups(group, mass, "mass", draws=5):
            assert abs(mass[drawn.features].sum() - wanted) <= mass[largest] / 2
    everything = matched_groups(group_of(*range(FEATURES)), mass, "size", draws=1)[0]
    assert everything.features.tolist() == np.flatnonzero(mass > 0).tolist()
    whole = matched_groups(group_of(*range(FEATURES)), mass, "mass", draws=1)[0]
    assert mass[whole.features].sum() == pytest.approx(mass.sum())


@pytest.mark.parametrize("features", [[0, 5, 10], []])
def test_a_group_that_is_never_active(mass, features):
    for match in ("size", "mass"):
        with pytest.raises(InfoscopeError, match="no feature of mine is active in the sample"):
            matched_groups(group_of(*features), mass, match, draws=2)


@pytest.mark.parametrize("match", ["size", "mass"])
def test_draws_come_again_and_do_not_depend_on_their_number(mass, match):
    group = group_of(*range(40, 90))

    def drawn(draws, seed=0, of=group):
        return [one.features.tolist() for one in matched_groups(of, mass, match, draws, seed)]

    assert drawn(5) == drawn(5)
    assert drawn(5)[:2] == drawn(2)
    assert not [one for one in drawn(5, seed=1) if one in drawn(5)]


def test_every_active_feature_is_drawn_alike_and_draws_are_independent(mass):
    group = group_of(*range(100))  # 80 of the 400 active
    first, second = (matched_groups(group_of(*features), mass, "size", 300) for features in (range(100), range(99)))
    counts = np.bincount(np.concatenate([one.features for one in first]), minlength=FEATURES)
    assert counts[mass == 0].sum() == 0
    assert abs(counts[mass > 0] - 60).max() < 5 * np.sqrt(300 * 0.2 * 0.8)
    inside = counts[group.features].sum()
    assert binomtest(int(inside), 300 * 80, 0.2).pvalue > 1e-3
    # Of 80 and 79 in 400, 15.8 are shared by chance: between draws, between groups, and between the two matches.
    by_mass = matched_groups(group, mass, "mass", 300)
    pairs = {
        "draws": (pairwise(first), 16),
        "groups": (zip(first, second, strict=True), 15.8),
        "matches": (zip(by_mass, first, strict=True), 16),
    }
    for name, (sides, chance) in pairs.items():
        # A group matched by mass has a number of features of its own.
        shared = [80 * np.isin(ours.features, theirs.features).mean() for ours, theirs in sides]
        assert np.mean(shared) == pytest.approx(chance, rel=0.06), name
