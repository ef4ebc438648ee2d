"""Small products that alternate with torch's use no second pool of threads."""

import numpy as np
import pytest
import scipy.linalg  # noqa: F401  (its library is loaded, so that its threads can be counted)
from threadpoolctl import threadpool_info, threadpool_limits

from infoscope.analyses.outliers.probes import probe_labels
from infoscope.analyses.probes import convex as logistic
from infoscope.analyses.probes.convex import Examples, fit_path, moments_of, ridge_path
from infoscope.analyses.probes.linear import Linear, product
from infoscope.analyses.probes.recipes import LogisticPath, RidgePath
from infoscope.runtime.executor import one_blas_thread


class TorchAlone(np.ndarray):
    """An array that numpy may not multiply as a matrix."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if ufunc is np.matmul:
            raise AssertionError("numpy's own threads were used")
        plain = [each.view(np.ndarray) if isinstance(each, TorchAlone) else each for each in inputs]
        return getattr(ufunc, method)(*plain, **options)


def threads():
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.fixture
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        if threads() != {2}:
            pytest.skip("numpy's linear algebra has no two threads here")
        yield


def examples(rows=60, width=5, classes=3, kind=np.ndarray):
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, rows)
    values = random.normal(size=(rows, width)).astype(np.float32)
    values[np.arange(rows), labels] += 2
    return Examples(values.view(kind), np.eye(classes, dtype=np.float32)[labels], np.ones(rows, np.float32))


def test_the_logistic_steps_use_torchs_threads_alone(two_threads):
    seen = []
    one = examples()

    def stream():
        seen.append(threads())
        yield one

    moments = moments_of(stream)
    seen.clear()
    for _ in fit_path(stream, LogisticPath((1.0, 0.1)), moments=moments, keep_bytes=0):
        assert threads() == {2}, "between heads, numpy is as it was"
    assert seen == [{1}] * len(seen)
    assert len(seen) > 5


def test_numpy_multiplies_no_matrix_in_a_step():
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0].view(TorchAlone)
    with pytest.raises(AssertionError, match="own threads"):
        _ = basis @ np.eye(5)
    one = examples()
    problem = logistic._Problem(lambda: iter([one]), 60.0, np.ones(3, bool), basis, 1.0, 0.1, lambda: None)
    loss, gradient = problem(np.zeros(18))
    assert loss == pytest.approx(np.log(3))
    assert gradient.shape == (18,)


def test_numpy_multiplies_no_matrix_in_what_is_done_for_each_image_or_batch():
    one = examples(kind=TorchAlone)
    moments = moments_of(lambda: iter([one]))
    [head] = ridge_path(moments, RidgePath((0.1,)))
    assert head(one.rows).shape == (60, 3)
    rows = one.rows.view(np.ndarray)
    np.testing.assert_allclose(head(one.rows), rows @ head.weight.T + head.bias, rtol=1e-5, atol=1e-6)


def test_products_take_any_array():
    values = np.arange(12.0).reshape(3, 4)
    fixed = values.copy()
    fixed.flags.writeable = False
    for first in (values, fixed, values[::-1], np.asfortranarray(values)):
        np.testing.assert_array_equal(product(first, values.T), first @ values.T)
    empty = Linear(np.ones((2, 4), np.float32), np.zeros(2, np.float32))(np.zeros((0, 4), np.float32))
    assert empty.shape == (0, 2)


def test_the_probes_of_outliers_use_one_thread(two_threads, monkeypatch):
    from sklearn.linear_model import LogisticRegression

    seen, fit = [], LogisticRegression.fit

    def watched(self, *arguments):
        seen.append(threads())
        return fit(self, *arguments)

    monkeypatch.setattr(LogisticRegression, "fit", watched)
    label = np.arange(60) % 2
    probe_labels(np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32), label, np.arange(60))
    assert seen == [{1}] * len(seen)
    assert seen
    assert threads() == {2}


def test_threads_come_back_after_an_error(two_threads):
    with pytest.raises(ValueError, match="torn"), one_blas_thread():
        raise ValueError("torn")
    assert threads() == {2}
