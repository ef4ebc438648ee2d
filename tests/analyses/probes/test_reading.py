"""Rows in order and mixed."""

import numpy as np
import pytest

from infoscope.analyses.probes.reading import STRETCH_BYTES, in_order, mixed
from infoscope.errors import InfoscopeError


@pytest.fixture(scope="module")
def rows():
    return np.arange(5000, dtype=np.float32).repeat(64).reshape(5000, 64)


def test_in_order_gives_the_asked_rows_once(rows):
    index = np.flatnonzero(np.arange(5000) % 3 > 0)
    read = list(in_order(rows, index, size=1000))
    np.testing.assert_array_equal(np.concatenate([which for _, which in read]), index)
    np.testing.assert_array_equal(np.concatenate([batch[:, 5] for batch, _ in read]), index)


@pytest.mark.parametrize("window", [5000, 1500])
def test_mixed_gives_every_row_once_whatever_the_window(rows, window):
    index = np.flatnonzero(np.arange(5000) % 5 > 0)
    read = list(mixed(rows, index, size=100, window=window, seed=(1,)))
    assert {len(batch) for batch, _ in read} == {100}
    which = np.concatenate([which for _, which in read])
    np.testing.assert_array_equal(np.sort(which), index)
    np.testing.assert_array_equal(np.concatenate([batch[:, 5] for batch, _ in read]), which)


def test_a_window_mixes_stretches_from_everywhere(rows):
    long = np.tile(rows, (8, 4))[:, :256]
    stretch = STRETCH_BYTES // (4 * 256)
    first, which = next(mixed(long, np.arange(len(long)), size=1000, window=8000, seed=(0,)))
    assert len(first) == 1000
    assert len(np.unique(which // stretch)) > 20
    again = next(mixed(long, np.arange(len(long)), size=1000, window=8000, seed=(0,)))[1]
    other = next(mixed(long, np.arange(len(long)), size=1000, window=8000, seed=(1,)))[1]
    np.testing.assert_array_equal(which, again)
    assert (which != other).any()


def test_what_is_not_finite_is_named(rows):
    broken = rows.copy()
    broken[17, 3] = np.inf
    with pytest.raises(InfoscopeError, match="row 17"):
        list(in_order(broken, np.arange(5000)))
    with pytest.raises(InfoscopeError, match="row 17"):
        list(mixed(broken, np.arange(5000), size=100, window=1500, seed=(0,)))
