import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from infoscope.dictionaries.topk_kernel import select_topk


def defined(pre, k):
    """The definition, in float64: the k largest, lower features first among equals, then what is above 0."""
    codes = np.zeros(pre.shape)
    for row, values in enumerate(pre.astype(np.float64)):
        kept = np.argsort(-values, kind="stable")[:k]
        codes[row, kept] = np.maximum(values[kept], 0)
    return codes


def dense(pre, k, block=None):
    kept = None
    for first in range(0, pre.shape[1], block or pre.shape[1]):
        kept = select_topk(np.ascontiguousarray(pre[:, first : first + (block or pre.shape[1])]), k, first, kept)
    feature, value, count = kept
    codes = np.zeros(pre.shape)
    for row in range(len(pre)):
        kept = slice(count[row])
        assert (np.diff(feature[row, kept]) > 0).all()
        assert (value[row, kept] > 0).all()
        assert not feature[row, count[row] :].any()
        assert not value[row, count[row] :].any()
        codes[row, feature[row, kept]] = value[row, kept]
    return codes


@pytest.mark.parametrize(
    ("features", "k"), [(4096, 32), (4096, 500), (1003, 8), (64, 63), (9, 3), (8, 8), (5, 2), (1, 1)]
)
def test_selects_as_defined(features, k):
    pre = np.random.default_rng(features + k).normal(size=(50, features)).astype(np.float32)
    np.testing.assert_array_equal(dense(pre, k), defined(pre, k))


@pytest.mark.parametrize("block", [1, 8, 50, 100, 199])
@pytest.mark.parametrize("k", [1, 7, 32, 150])
def test_blocks_of_features_make_no_difference(block, k):
    random = np.random.default_rng(k)
    for pre in (random.normal(size=(40, 200)), random.integers(-2, 3, size=(40, 200))):
        np.testing.assert_array_equal(dense(pre.astype(np.float32), k, block), defined(pre.astype(np.float32), k))


@pytest.mark.parametrize("k", [1, 7, 32, 200])
def test_ties_go_to_lower_features(k):
    # Five values over 200 features: nearly every bound is shared by dozens.
    pre = np.random.default_rng(k).integers(-2, 3, size=(200, 200)).astype(np.float32)
    np.testing.assert_array_equal(dense(pre, k), defined(pre, k))


def test_all_equal():
    np.testing.assert_array_equal(dense(np.ones((3, 40), np.float32), 5)[:, :6], [[1, 1, 1, 1, 1, 0]] * 3)


def test_nothing_positive():
    pre = np.array([[-1.0, -0.0, 0.0, -np.inf] * 10], np.float32)
    _, _, count = select_topk(pre, 4)
    assert count.tolist() == [0]


def test_extremes_of_float32():
    tiny, large = np.float32(1e-45), np.finfo(np.float32).max
    pre = np.array([[tiny, -large, large, 0.0, np.inf, tiny, -tiny, 1.0, 1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(dense(pre, 4), defined(pre, 4))


def test_sixty_five_thousand_features():
    pre = np.random.default_rng(0).normal(size=(5, 65536)).astype(np.float32)
    np.testing.assert_array_equal(dense(pre, 32), defined(pre, 32))


@settings(deadline=None, max_examples=200)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 70)), elements=st.floats(-4, 4, width=16)),
    st.integers(1, 70),
    st.integers(1, 70),
)
def test_any_small_array(pre, k, block):
    np.testing.assert_array_equal(dense(pre, k, block), defined(pre, k))
