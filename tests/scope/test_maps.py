"""Sparse maps against plain slicing of dense arrays."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from infoscope.scope.maps import SparseMaps, overlap_maps

CODES = st.one_of(st.just(0.0), st.floats(2.0**-100, 2.0**100, width=32))


@st.composite
def dense_maps(draw: st.DrawFn, count: int | None = None, grid: int | None = None) -> np.ndarray:
    """Maps ``[map, row, column]``, many of their cells and some of the maps empty."""
    count = draw(st.integers(0, 5)) if count is None else count
    grid = draw(st.integers(2, 7)) if grid is None else grid
    return draw(arrays(np.float32, (count, grid, grid), elements=CODES, fill=st.just(0.0)))


def sparse(maps: np.ndarray) -> SparseMaps:
    return SparseMaps.from_dense(maps.reshape(len(maps), maps.shape[1] * maps.shape[2]))


@given(dense_maps())
def test_dense_gives_back_what_from_dense_took(maps):
    assert np.array_equal(sparse(maps).dense().reshape(maps.shape), maps)


@given(dense_maps())
def test_entries_are_positive_and_ascend_within_a_map(maps):
    stored = sparse(maps)
    assert len(stored) == len(maps)
    assert np.all(stored.value > 0)
    assert stored.start[0] == 0
    assert stored.start[-1] == len(stored.patch) == len(stored.value) == np.count_nonzero(maps)
    for begin, end in zip(stored.start[:-1], stored.start[1:], strict=True):
        assert np.all(np.diff(stored.patch[begin:end].astype(int)) > 0)


def test_negative_codes_are_no_part_of_a_map():
    maps = SparseMaps.from_dense(np.array([[-1.0, 0.0, 2.0]]))
    assert maps.patch.tolist() == [2]
    assert maps.value.tolist() == [2.0]


@given(dense_maps())
def test_mass_and_peak_are_sum_and_maximum(maps):
    stored = sparse(maps)
    flat = maps.reshape(len(maps), maps.shape[1] * maps.shape[2])
    np.testing.assert_allclose(stored.mass(), flat.sum(axis=1, dtype=np.float64), rtol=1e-12)
    assert np.array_equal(stored.peak(), flat.max(axis=1))


@given(dense_maps(count=4), st.lists(st.integers(0, 3), max_size=6))
def test_take_is_fancy_indexing(maps, index):
    taken = sparse(maps).take(np.array(index, np.int64))
    assert np.array_equal(taken.dense().reshape(len(index), *maps.shape[1:]), maps[np.array(index, np.int64)])


@given(dense_maps(), st.data())
def test_window_is_slicing(maps, data):
    grid = maps.shape[1]
    side = data.draw(st.integers(1, grid))
    top, left = data.draw(st.integers(0, grid - side)), data.draw(st.integers(0, grid - side))
    window = sparse(maps).window(grid, top, left, side)
    assert window.cells == side * side
    assert np.array_equal(window.dense().reshape(len(maps), side, side), maps[:, top : top + side, left : left + side])


@given(st.integers(2, 7), st.data())
def test_overlap_is_the_shared_rows_and_columns_of_the_two_token_grids(grid, data):
    shift = data.draw(st.integers(0, grid - 2))
    first, second = data.draw(dense_maps(3, grid)), data.draw(dense_maps(3, grid))
    left, right = overlap_maps(sparse(first), sparse(second), grid, shift)
    side = grid - shift
    assert np.array_equal(left.dense().reshape(3, side, side), first[:, shift:, shift:])
    assert np.array_equal(right.dense().reshape(3, side, side), second[:, :side, :side])


def test_overlap_aligns_pixels():
    """A scene's patch keeps its place on the overlap of both crops, though its token moves by the shift."""
    scene = np.arange(1.0, 257.0, dtype=np.float32).reshape(1, 16, 16)
    first, second = overlap_maps(sparse(scene[:, :14, :14]), sparse(scene[:, 2:, 2:]), grid=14, shift=2)
    assert np.array_equal(first.dense(), second.dense())
    assert np.array_equal(first.dense().reshape(12, 12), scene[0, 2:14, 2:14])
