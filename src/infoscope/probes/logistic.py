"""Multinomial logistic regression by L-BFGS over a path of strengths, streaming, with shares of classes as targets.

Two things make it cheap. Weights are sought in the coordinates in which the features' covariance and the penalty are
round at the start of training, so that a strength takes tens of steps where plain coordinates take hundreds; the
optimum is the same. And each strength starts from the last one's weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64

from infoscope.errors import InfoscopeError
from infoscope.execution.limits import one_blas_thread
from infoscope.probes.linear import NEVER, Linear, product
from infoscope.probes.moments import Examples, Moments, Stream, moments_of
from infoscope.probes.solvers import LogisticPath

# What training examples may take in memory between passes; our choice. It changes no result.
KEEP_BYTES = 2**30


@dataclass(frozen=True)
class Fitted:
    """One strength's head.

    Attributes:
        strength: of the penalty.
        linear: on raw features.
        objective: mean cross-entropy with the penalty, on the training examples.
        passes: over the examples.
        converged: False where the limit of steps came first.
    """

    strength: float
    linear: Linear
    objective: float
    passes: int
    converged: bool


def fit_path(
    stream: Stream,
    solver: LogisticPath,
    *,
    moments: Moments | None = None,
    keep_bytes: int = KEEP_BYTES,
    report: Callable[[], object] = lambda: None,
) -> Iterator[Fitted]:
    """Heads of one strength after the other.

    Args:
        stream: the training examples; targets are shares of classes.
        solver: strengths, strongest first, and when a strength is done.
        moments: of the stream, where they are known already.
        keep_bytes: standardised examples are kept between passes if they fit; else they are read anew.
        report: called after each pass over the examples.

    Yields:
        Each strength's head. A class that no example has is never predicted.

    Raises:
        InfoscopeError: no example counts, or all are of one class.

    Example:
        >>> rows = np.array([[-2.0], [-1.0], [1.0], [2.0]], np.float32)
        >>> shares = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
        >>> [fitted] = fit_path(lambda: iter([Examples(rows, shares, np.ones(4, np.float32))]), LogisticPath((0.1,)))
        >>> fitted.converged, fitted.linear(rows).argmax(1).tolist()
        (True, [0, 0, 1, 1])
    """
    from scipy.optimize import minimize

    moments = moments or moments_of(stream)
    standard = kept(_standardised(stream, moments), keep_bytes)
    present = moments.target_mean > 0
    if present.sum() < 2:
        raise InfoscopeError(
            "all training examples are of one class, and a classifier needs two: check the labels or the split"
        )
    with one_blas_thread():
        spectrum, axes = np.linalg.eigh(moments.correlation)
    spectrum = np.maximum(spectrum, 0.0)
    classes, width = int(present.sum()), len(spectrum)
    weight = np.zeros((width, classes))
    bias = np.log(moments.target_mean[present])
    for strength in solver.strengths:
        # At equal shares the curvature is 1 / classes along each class.
        scale = 1.0 / np.sqrt(spectrum / classes + strength)
        bias_scale = np.sqrt(classes)
        problem = _Problem(standard, moments.weight, present, axes * scale, bias_scale, strength, report)
        start = np.concatenate([product(axes.T, weight) / scale[:, None], (bias / bias_scale)[None]]).ravel()
        # Its own steps are small, and torch's products come between them.
        with warnings.catch_warnings(), one_blas_thread():
            warnings.simplefilter("ignore", RuntimeWarning)
            found = minimize(
                problem,
                start,
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": solver.iterations, "ftol": solver.tolerance, "gtol": 1e-7, "maxcor": 20},
            )
        weight, bias = problem.unpack(found.x)
        yield Fitted(
            strength=strength,
            linear=_raw(weight, bias, moments, present),
            objective=float(found.fun),
            passes=int(found.nfev),
            # A line search that cannot do better in float32 has arrived as well.
            converged=int(found.status) != 1,
        )


@dataclass(frozen=True, eq=False)
class _Problem:
    """The objective and its gradient, in round coordinates."""

    stream: Stream
    total: float
    present: Bool[np.ndarray, " target"]
    basis: Float64[np.ndarray, "feature feature"]
    bias_scale: float
    strength: float
    report: Callable[[], object]

    def unpack(
        self, values: Float64[np.ndarray, " value"]
    ) -> tuple[Float64[np.ndarray, "feature class"], Float64[np.ndarray, " class"]]:
        """Weights of standardised features, and biases."""
        table = values.reshape(len(self.basis) + 1, -1)
        return product(self.basis, table[:-1]), table[-1] * self.bias_scale

    def __call__(self, values: Float64[np.ndarray, " value"]) -> tuple[float, Float64[np.ndarray, " value"]]:
        weight, bias = self.unpack(values)
        layer, offset = torch.tensor(weight.T, dtype=torch.float32), torch.tensor(bias, dtype=torch.float32)
        loss = 0.0
        slope, bias_slope = np.zeros_like(weight), np.zeros_like(bias)
        whole = bool(self.present.all())
        for examples in self.stream():
            rows, counts = torch.from_numpy(examples.rows), torch.from_numpy(examples.weight)
            shares = torch.from_numpy(examples.target if whole else examples.target[:, self.present]).T
            # Classes first: a softmax along rows of memory is many times as fast where classes are few.
            logits = torch.addmm(offset[:, None], layer, rows.T).log_softmax(0)
            loss -= float((logits * shares).mul_(counts).sum(dtype=torch.float64))
            error = logits.exp_().sub_(shares).mul_(counts)
            slope += (error @ rows).T.numpy()
            bias_slope += error.sum(1, dtype=torch.float64).numpy()
        self.report()
        total = self.total
        slope = slope / total + self.strength * weight
        gradient = np.concatenate([product(self.basis.T, slope), (bias_slope / total * self.bias_scale)[None]])
        return loss / total + self.strength / 2 * float((weight**2).sum()), gradient.ravel()


def kept(stream: Stream, most: int) -> Stream:
    """The same examples, held in memory from the first pass on if they take no more than ``most`` bytes."""
    held: list[Examples] | None = []
    whole = False

    def examples() -> Iterator[Examples]:
        nonlocal held, whole
        if whole and held is not None:
            yield from held
            return
        held, size = [], 0
        for each in stream():
            size += each.rows.nbytes + each.target.nbytes + each.weight.nbytes
            if size > most:
                held = None
            if held is not None:
                held.append(each)
            yield each
        whole = held is not None

    return examples


def _standardised(stream: Stream, moments: Moments) -> Stream:
    def examples() -> Iterator[Examples]:
        for each in stream():
            yield Examples(moments.standardise(each.rows), each.target, each.weight)

    return examples


def _raw(
    weight: Float64[np.ndarray, "feature class"],
    bias: Float64[np.ndarray, " class"],
    moments: Moments,
    present: Bool[np.ndarray, " target"],
) -> Linear:
    """The layer on features as they are, for all classes."""
    scaled = weight / moments.std[:, None]
    full = np.zeros((len(present), len(weight)), np.float32)
    offset = np.full(len(present), NEVER, np.float32)
    full[present] = scaled.T
    offset[present] = bias - moments.mean @ scaled
    return Linear(full, offset)
