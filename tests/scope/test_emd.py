"""The earth mover's distance against POT, closed forms, an assignment solver and the axioms of a metric."""

import gc
import os
import signal
import threading
import time
import warnings

import numpy as np
import ot
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

import infoscope.scope.emd as emd_module
from infoscope.errors import InfoscopeError
from infoscope.scope.emd import emd, emd_pairs
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import SparseMaps, overlap_maps

METRICS = ["euclidean", "l1"]


def pot(first: np.ndarray, second: np.ndarray, distances: np.ndarray) -> float:
    """POT's distance between two dense maps, nothing cancelled. Were it not to converge, its warning is an error."""
    a, b = first.astype(float) / first.astype(float).sum(), second.astype(float) / second.astype(float).sum()
    rows, columns = np.flatnonzero(a), np.flatnonzero(b)
    costs = np.ascontiguousarray(distances[np.ix_(rows, columns)])
    return float(ot.emd2(a[rows], b[columns], costs, numItermax=10**8))


def agrees(first: np.ndarray, second: np.ndarray, distances: np.ndarray) -> None:
    """Every pair is as POT has it. 1e-9 is the aim, but only sums over a large grid lose digits: 1e-12 of either."""
    ours = emd_pairs(SparseMaps.from_dense(first), SparseMaps.from_dense(second), distances)
    # What is stored is float32: the reference gets the same numbers.
    theirs = [pot(a, b, distances) for a, b in zip(first.astype(np.float32), second.astype(np.float32), strict=True)]
    assert ours == pytest.approx(np.array(theirs), rel=0, abs=1e-11)


def sparse_maps(rng: np.random.Generator, count: int, cells: int, share: float) -> np.ndarray:
    """Positive maps ``[map, cell]`` on about ``share`` of the cells, at least on one."""
    maps = rng.exponential(size=(count, cells)) * (rng.random((count, cells)) < share)
    maps[np.arange(count), rng.integers(cells, size=count)] += 0.1
    return maps


def blobs(rng: np.random.Generator, count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs like the maps of real features: bumps that stay, move a little or jump, cut off at a threshold."""
    rows, columns = np.divmod(np.arange(side * side), side)
    centre = rng.uniform(0, side - 1, (count, 2, 2))
    moved = centre + rng.normal(size=centre.shape) * rng.choice([0.0, 0.3, 4.0], (count, 2, 1))
    height, width = rng.uniform(0.5, 2.0, (count, 2)), rng.uniform(0.5, 2.5, (count, 2))

    def draw(centre: np.ndarray) -> np.ndarray:
        squares = (rows - centre[..., :1]) ** 2 + (columns - centre[..., 1:]) ** 2
        bumps = (height[..., None] * np.exp(-squares / (2 * width[..., None] ** 2))).sum(1)
        return np.maximum(bumps * rng.uniform(0.8, 1.2, bumps.shape) - 0.15, 0.0) + 1e-3 * (
            bumps == bumps.max(1, keepdims=True)
        )

    return draw(centre), draw(moved)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("side", "count"), [(1, 20), (2, 150), (3, 150), (5, 150), (8, 150), (12, 150), (14, 150)])
def test_sparse_maps_agree_with_pot(side, count, metric):
    rng = np.random.default_rng(side)
    for share in (0.05, 0.25):
        first, second = (sparse_maps(rng, count, side * side, share) for _ in range(2))
        agrees(first, second, patch_distances(side, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_maps_like_those_of_features_agree_with_pot(metric):
    first, second = blobs(np.random.default_rng(0), 400, 14)
    agrees(first, second, patch_distances(14, metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("side", [2, 6, 14])
def test_dense_maps_agree_with_pot(side, metric):
    rng = np.random.default_rng(side)
    agrees(rng.random((20, side**2)) + 1e-3, rng.random((20, side**2)) + 1e-3, patch_distances(side, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_the_largest_grid_agrees_with_pot(metric):
    rng = np.random.default_rng(37)
    distances = patch_distances(37, metric)
    agrees(sparse_maps(rng, 10, 1369, 0.05), sparse_maps(rng, 10, 1369, 0.05), distances)
    agrees(rng.random((1, 1369)), rng.random((1, 1369)), distances)
    agrees(*blobs(rng, 2, 37), distances)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("side", [3, 8, 14])
def test_disjoint_maps_agree_with_pot(side, metric):
    rng = np.random.default_rng(side)
    first, second = (sparse_maps(rng, 60, side * side, 0.5) for _ in range(2))
    mine = rng.random(first.shape) < 0.5
    mine[:, 0], mine[:, 1] = True, False
    first[:, 0] += 0.1
    second[:, 1] += 0.1
    agrees(first * mine, second * ~mine, patch_distances(side, metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("most", [2, 3, 10, 63, 64, 65, 120])
def test_two_cells_against_many_agree_with_pot(most, metric):
    rng = np.random.default_rng(most)
    first, second = np.zeros((60, 144)), np.zeros((60, 144))
    for pair in range(60):
        cells = rng.permutation(144)
        first[pair, cells[:2]] = rng.exponential(size=2) if pair % 2 else 1.0
        second[pair, cells[2 : 2 + most]] = rng.exponential(size=most) if pair % 2 else 1.0
    agrees(first, second, patch_distances(12, metric))
    agrees(second, first, patch_distances(12, metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("side", [2, 5, 14])
def test_masses_from_1e_minus_12_to_1_agree_with_pot(side, metric):
    rng = np.random.default_rng(side)
    first, second = (
        sparse_maps(rng, 60, side * side, 0.4) * 10.0 ** rng.uniform(-12, 0, (60, side * side)) for _ in range(2)
    )
    agrees(first, second, patch_distances(side, metric))
    # All of the mass in one common cell but 1e-12: the whole distance is of that order.
    first[:], second[:] = (sparse_maps(rng, 60, side * side, 0.4) * 1e-12 for _ in range(2))
    first[:, 0] = second[:, 0] = 1.0
    agrees(first, second, patch_distances(side, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_equal_masses_agree_with_an_assignment_solver(metric):
    rng = np.random.default_rng(0)
    distances = patch_distances(14, metric)
    cells = np.stack([rng.permutation(196) for _ in range(10)])
    first, second = np.zeros((10, 196)), np.zeros((10, 196))
    np.put_along_axis(first, cells[:, :98], 1.0, axis=1)
    np.put_along_axis(second, cells[:, 98:], 1.0, axis=1)
    ours = emd_pairs(SparseMaps.from_dense(first), SparseMaps.from_dense(second), distances)
    for mine, order in zip(ours, cells, strict=True):
        costs = distances[np.ix_(order[:98], order[98:])]
        assert mine == pytest.approx(costs[linear_sum_assignment(costs)].mean(), rel=0, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_levels_that_tie_everywhere_agree_with_pot(metric):
    rng = np.random.default_rng(0)
    distances = patch_distances(14, metric)
    for levels in (2, 4):
        agrees(rng.integers(0, levels, (15, 196)) * 1.0, rng.integers(0, levels, (15, 196)) * 1.0, distances)
    # Two uniform maps over windows that overlap, a checkerboard against its complement, a half against the other.
    grid = np.arange(196).reshape(14, 14)
    row, column = np.divmod(grid, 14)
    shapes = [(row < 10, row > 3), ((row + column) % 2 == 0, (row + column) % 2 == 1), (column < 7, column >= 7)]
    for first, second in shapes:
        agrees(first.reshape(1, -1) * 1.0, second.reshape(1, -1) * 1.0, distances)


@pytest.mark.parametrize("metric", METRICS)
def test_ties_on_the_largest_grid_agree_with_pot(metric):
    row, column = np.divmod(np.arange(37**2), 37)
    shapes = [
        (column < 18, column > 18),
        (row < column, row > column),
        ((row + column) % 2 == 0, (row + column) % 2 == 1),
        (row + column < 2, row + column >= 2),
    ]
    first, second = (np.array([shape[side] for shape in shapes], float) for side in (0, 1))
    agrees(first, second, patch_distances(37, metric))


@pytest.mark.parametrize("cells", [2, 7, 60, 600])
def test_on_a_line_it_is_the_area_between_the_cumulated_masses(cells):
    rng = np.random.default_rng(cells)
    place = np.sort(rng.uniform(0, 1, cells))
    distances = np.abs(np.subtract.outer(place, place))
    for spread in (0, 3, 12):
        for share in (0.2, 1.0):
            first, second = (
                sparse_maps(rng, 1, cells, share)[0] * 10.0 ** rng.uniform(-spread, 0, cells) for _ in range(2)
            )
            between = np.cumsum(first / first.sum() - second / second.sum())[:-1]
            assert emd(first, second, distances) == pytest.approx(np.abs(between) @ np.diff(place), rel=0, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("side", [1, 2, 5, 14])
def test_between_single_cells_it_is_their_distance_exactly(side, metric):
    distances = patch_distances(side, metric)
    cells = SparseMaps.from_dense(np.eye(side**2) * 0.3)
    first, second = np.divmod(np.arange(side**4), side**2)
    assert np.array_equal(emd_pairs(cells.take(first), cells.take(second), distances), distances.ravel())


@pytest.mark.parametrize(("side", "average"), [(10, 0.4075), (12, 0.4008), (13, 0.3982), (14, 0.3960)])
def test_two_independent_single_patches_average_as_the_method_says(side, average):
    distances = patch_distances(side)
    cells = SparseMaps.from_dense(np.eye(side**2))
    first, second = np.divmod(np.arange(side**4), side**2)
    mean = emd_pairs(cells.take(first), cells.take(second), distances).mean() / distances.max()
    assert mean == pytest.approx(average, abs=5e-5)


def test_a_peak_glued_to_its_position_moves_by_the_shift():
    p, s = 14, 2
    distances = patch_distances(p - s)
    places = [row * p + column for row in range(s, p - s) for column in range(s, p - s)]
    glued = SparseMaps.from_dense(np.eye(p * p)[places])
    values = emd_pairs(*overlap_maps(glued, glued, p, s), distances) / distances.max()
    assert values == pytest.approx(np.full(len(places), s / (p - s - 1)), abs=1e-15)
    assert values[0] == pytest.approx(0.182, abs=5e-4)


@st.composite
def grid_pairs(draw: st.DrawFn, maps: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Maps on a small grid, of a few integer levels (many ties) or of any weights, and ground distances."""
    side = draw(st.integers(1, 4))
    weight = draw(st.sampled_from([st.integers(0, 2), st.integers(0, 50), st.floats(2.0**-60, 1.0)]))
    values = draw(st.lists(weight, min_size=maps * side**2, max_size=maps * side**2))
    dense = np.array(values, float).reshape(maps, side**2)
    dense[:, draw(st.integers(0, side**2 - 1))] += dense.sum(axis=1) == 0
    return dense, patch_distances(side, draw(st.sampled_from(METRICS)))


@given(grid_pairs())
def test_small_maps_agree_with_pot(pair):
    (first, second), distances = pair
    assert emd(first, second, distances) == pytest.approx(pot(first, second, distances), rel=0, abs=1e-12)


@given(grid_pairs(maps=3))
def test_it_is_a_metric(triple):
    (a, b, c), distances = triple
    assert emd(a, a, distances) == 0.0
    assert emd(a, b, distances) == emd(b, a, distances)
    assert emd(a, c, distances) <= emd(a, b, distances) + emd(b, c, distances) + 1e-12
    assert 0 <= emd(a, b, distances) <= distances.max()


@given(grid_pairs(), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_it_knows_neither_the_maps_scale_nor_the_unit_of_length(pair, scale, unit):
    (first, second), distances = pair
    value = emd(first, second, distances)
    assert emd(scale * first, second, distances) == pytest.approx(value, rel=0, abs=1e-12)
    assert emd(first, second, unit * distances) == pytest.approx(unit * value, abs=1e-12 * unit)


@pytest.mark.slow
@given(grid_pairs(maps=6), st.permutations(range(6)))
def test_a_pair_does_not_see_the_others(maps, order):
    dense, distances = maps
    stored = SparseMaps.from_dense(dense)
    index = np.array(order)
    together = emd_pairs(stored, stored.take(index), distances)
    for i, j in enumerate(order):
        one, other = stored.take(np.array([i])), stored.take(np.array([j]))
        assert emd_pairs(one, other, distances)[0] == together[i]
        assert emd(one.dense()[0], other.dense()[0], distances) == together[i]


def test_threads_and_chunks_do_not_change_a_bit(monkeypatch):
    first, second = (SparseMaps.from_dense(maps) for maps in blobs(np.random.default_rng(0), 500, 14))
    distances = patch_distances(14)
    alone = emd_pairs(first, second, distances, threads=1)
    assert np.array_equal(emd_pairs(second, first, distances), alone)
    monkeypatch.setattr(emd_module, "THREAD_WORK", 20_000)
    for threads in (None, 1, 2, 5):
        assert np.array_equal(emd_pairs(first, second, distances, threads=threads), alone)


def test_several_threads_and_a_forked_child_may_call_it_at_once(monkeypatch):
    monkeypatch.setattr(emd_module, "THREAD_WORK", 20_000)
    first, second = (SparseMaps.from_dense(maps) for maps in blobs(np.random.default_rng(0), 200, 14))
    distances = patch_distances(14)
    alone = emd_pairs(first, second, distances, threads=1)
    same: list[bool] = []

    def call() -> None:
        same.append(np.array_equal(emd_pairs(first, second, distances, threads=3), alone))

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert same == [True] * 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other libraries' threads
        child = os.fork()
    if child == 0:
        call()
        os._exit(0 if same[-1] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_interrupt_ends_a_batch_early(monkeypatch):
    solved = []
    # A process started in the background may have been told to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    # hypothesis listens to the garbage collector, and an interrupt that falls into a listener is lost.
    gc.disable()

    def slow(first, second, distances, costs):
        time.sleep(0.005)
        solved.append(1)
        return np.zeros(len(first[0]) - 1)

    monkeypatch.setattr(emd_module, "_solve", slow)
    monkeypatch.setattr(emd_module, "THREAD_WORK", 1)
    maps = SparseMaps.from_dense(np.ones((4000, 4)))
    main = threading.get_ident()
    timer = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            emd_pairs(maps, maps, patch_distances(2), threads=2)
    finally:
        gc.enable()
        signal.signal(signal.SIGINT, before)
    assert len(solved) < 4000


def test_a_map_without_mass_has_no_distance():
    first = SparseMaps.from_dense(np.array([[0.0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]))
    second = SparseMaps.from_dense(np.array([[0.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]))
    values = emd_pairs(first, second, patch_distances(2))
    assert np.array_equal(values, [np.nan, np.nan, np.nan, 1.0], equal_nan=True)
    assert np.isnan(emd(np.zeros(4), np.ones(4), patch_distances(2)))


def test_no_pairs_have_no_distances():
    maps = SparseMaps.from_dense(np.empty((0, 4)))
    assert emd_pairs(maps, maps, patch_distances(2)).shape == (0,)


def test_a_scaled_copy_is_at_distance_zero():
    rng = np.random.default_rng(0)
    maps = sparse_maps(rng, 50, 196, 0.3).astype(np.float32)
    first, second = SparseMaps.from_dense(maps), SparseMaps.from_dense(maps * np.float32(4.0))
    assert not emd_pairs(first, second, patch_distances(14)).any()


def test_weights_at_the_ends_of_float64_are_normalised():
    line = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))
    assert emd(np.array([1e308, 1e308, 0, 0]), np.array([0, 0, 1e-300, 1e-300]), line) == pytest.approx(2.0)
    assert emd(np.array([1.0, 1.0, 0, 0]), np.array([0, 0, 1.0, 1.0]), 1e300 * line) == pytest.approx(2e300)


def test_inputs_are_left_as_they_were():
    rng = np.random.default_rng(0)
    maps, distances = SparseMaps.from_dense(sparse_maps(rng, 5, 25, 0.5)), patch_distances(5)
    arrays = [maps.start, maps.patch, maps.value, distances]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    emd_pairs(maps, maps.take(np.arange(5)[::-1].copy()), distances)
    assert all(np.array_equal(array, copy) for array, copy in zip(arrays, before, strict=True))


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (patch_distances(4) ** 2, "longer than a way round"),
        (patch_distances(4) + np.triu(np.ones((16, 16)), 1), "differ by direction"),
        (patch_distances(4) + 1, "a cell is away from itself"),
        (-patch_distances(4), "are negative"),
        (np.where(patch_distances(4) > 4, np.nan, patch_distances(4)), "not finite"),
        (np.where(patch_distances(4) > 4, np.inf, patch_distances(4)), "not finite"),
    ],
)
def test_what_is_not_a_metric_is_refused(distances, message):
    maps = SparseMaps.from_dense(np.ones((1, 16)))
    with pytest.raises(InfoscopeError, match=message):
        emd_pairs(maps, maps, distances)
    with pytest.raises(InfoscopeError, match=message):
        emd(np.ones(16), np.ones(16), distances)


@pytest.mark.parametrize(
    ("patch", "value"),
    [
        ([0, 4], [1, 1]),
        ([2, 1], [1, 1]),
        ([1, 1], [1, 1]),
        ([0, 1], [1, -1]),
        ([0, 1], [1, np.nan]),
        ([0, 1], [1, np.inf]),
    ],
)
def test_a_malformed_map_is_refused_by_its_number(patch, value):
    good = SparseMaps.from_dense(np.ones((3, 4)))
    bad = SparseMaps(
        start=np.array([0, 1, 2, 4]),
        patch=np.array([0, 0, *patch], np.uint16),
        value=np.array([1, 1, *value], np.float32),
        cells=4,
    )
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(InfoscopeError, match="map 2 of 3 is malformed"):
            emd_pairs(*pair, patch_distances(2))


@pytest.mark.parametrize("weights", [[1.0, -1.0, 1.0, 1.0], [1.0, np.nan, 1.0, 1.0], [1.0, np.inf, 1.0, 1.0]])
def test_malformed_weights_are_refused(weights):
    with pytest.raises(InfoscopeError, match="negative or not finite"):
        emd(np.ones(4), np.array(weights), patch_distances(2))


def test_sizes_that_disagree_are_refused():
    four, nine = SparseMaps.from_dense(np.ones((2, 4))), SparseMaps.from_dense(np.ones((2, 9)))
    with pytest.raises(ValueError, match="2 first and 1 second maps"):
        emd_pairs(four, four.take(np.array([0])), patch_distances(2))
    with pytest.raises(ValueError, match="maps of 4 and of 9 cells, distances between 4"):
        emd_pairs(four, nine, patch_distances(2))
    with pytest.raises(ValueError, match="distances between 9"):
        emd_pairs(four, four, patch_distances(3))
    with pytest.raises(ValueError, match="do not fit their entries"):
        emd_pairs(four, SparseMaps(four.start + 1, four.patch, four.value, 4), patch_distances(2))
    with pytest.raises((ValueError, TypeError)):  # a TypeError from the checked annotations, which come first here
        emd(np.ones(4), np.ones(4), patch_distances(3))
