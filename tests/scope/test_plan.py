import numpy as np
import pytest

from infoscope.scope.emd import emd_pairs, transport_plans
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import SparseMaps

SIDE = 7


def drawn_maps(pairs, seed=0):
    """Pairs of maps with one to all cells, so that every way to solve one is taken."""
    random = np.random.default_rng(seed)
    share = random.choice([0.01, 0.03, 0.1, 0.5, 1.0], (2 * pairs, 1))
    shape = (2 * pairs, SIDE * SIDE)
    dense = np.where(random.random(shape) < share, random.gamma(0.5, 1.0, shape), 0.0)
    return SparseMaps.from_dense(dense[:pairs]), SparseMaps.from_dense(dense[pairs:])


@pytest.mark.parametrize("metric", ["euclidean", "l1"])
def test_a_plan_makes_one_map_the_other_at_the_least_distance(metric):
    first, second = drawn_maps(200)
    distances = patch_distances(SIDE, metric)
    least = emd_pairs(first, second, distances, threads=1)
    found = transport_plans(first, second, distances)
    sizes = set()
    for pair, plan in enumerate(found):
        if np.isnan(least[pair]):
            assert len(plan) == 0
            continue
        one, other = (maps.dense()[pair].astype(float) / maps.mass()[pair] for maps in (first, second))
        np.subtract.at(one, plan.source, plan.mass)
        np.add.at(one, plan.sink, plan.mass)
        np.testing.assert_allclose(one, other, atol=1e-9)
        assert (plan.mass * distances[plan.source, plan.sink]).sum() == pytest.approx(least[pair], abs=1e-9)
        assert (np.diff(plan.mass) <= 0).all()
        assert not (plan.source == plan.sink).any()
        sizes.add(min(len(set(plan.source)), len(set(plan.sink)), 3))
    assert sizes >= {1, 2, 3}, "one, two and more sources are solved in different ways"


def test_the_direction_is_from_the_first_map_to_the_second():
    wide = np.zeros(SIDE * SIDE)
    wide[[3, 9, 12]] = 1.0
    narrow = np.zeros(SIDE * SIDE)
    narrow[40] = 1.0
    maps = [SparseMaps.from_dense(values[None]) for values in (wide, narrow)]
    distances = patch_distances(SIDE)
    there, back = transport_plans(*maps, distances)[0], transport_plans(*maps[::-1], distances)[0]
    assert (sorted(there.source), set(there.sink)) == ([3, 9, 12], {40})
    assert (set(back.source), sorted(back.sink)) == ({40}, [3, 9, 12])


def test_equal_maps_need_no_route():
    maps = SparseMaps.from_dense(np.random.default_rng(0).random((3, SIDE * SIDE)))
    assert [len(plan) for plan in transport_plans(maps, maps, patch_distances(SIDE))] == [0, 0, 0]
