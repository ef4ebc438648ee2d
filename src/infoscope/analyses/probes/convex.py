"""Convex heads: ridge in closed form, logistic regression by L-BFGS, standardised by the features' moments."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64

from infoscope.analyses.probes.linear import Linear, product
from infoscope.analyses.probes.recipes import LogisticPath, RidgePath
from infoscope.errors import InfoscopeError
from infoscope.runtime.executor import one_blas_thread


@dataclass(frozen=True)
class Examples:
    """Some rows to learn from.

    Attributes:
        rows: the features.
        target: what is to be predicted: shares of classes that sum to 1, or one number each.
        weight: how much each row counts.
    """

    rows: Float32[np.ndarray, "row feature"]
    target: Float32[np.ndarray, "row target"]
    weight: Float32[np.ndarray, " row"]


# Each call passes over the same examples once more, in the same batches.
Stream: TypeAlias = Callable[[], Iterator[Examples]]


@dataclass(frozen=True)
class Moments:
    """Weighted moments of features and of their targets.

    Attributes:
        weight: the sum of the weights.
        mean: of each feature.
        std: of each feature; 1 where a feature never changes, so that it is left at 0 by standardising.
        correlation: of the standardised features.
        target_mean: of each target.
        cross: the mean product of standardised features and centred targets.
        target_spread: the mean square of centred targets.
    """

    weight: float
    mean: Float64[np.ndarray, " feature"]
    std: Float64[np.ndarray, " feature"]
    correlation: Float64[np.ndarray, "feature feature"]
    target_mean: Float64[np.ndarray, " target"]
    cross: Float64[np.ndarray, "feature target"]
    target_spread: Float64[np.ndarray, " target"]

    def standardise(self, rows: Float32[np.ndarray, "row feature"]) -> Float32[np.ndarray, "row feature"]:
        """Rows of mean 0 and spread 1."""
        standard = rows - self.mean.astype(np.float32)
        standard /= self.std.astype(np.float32)
        return standard


def moments_of(stream: Stream) -> Moments:
    """Moments of a stream's examples.

    Products are of float32 values around the first batch's mean and are summed in float64.

    Raises:
        InfoscopeError: no example counts.

    Example:
        >>> rows = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
        >>> found = moments_of(lambda: iter([Examples(rows, rows[:, :1], np.ones(2, np.float32))]))
        >>> found.mean.tolist(), found.std.tolist(), found.correlation.tolist()
        ([2.0, 5.0], [1.0, 1.0], [[1.0, 0.0], [0.0, 0.0]])
    """
    weight = 0.0
    origin = target_origin = None
    for examples in stream():
        if origin is None or target_origin is None:
            origin, target_origin = examples.rows.mean(0), examples.target.mean(0)
            width, targets = len(origin), len(target_origin)
            first, square = np.zeros(width), np.zeros((width, width))
            target_first, target_square = np.zeros(targets), np.zeros(targets)
            cross = np.zeros((width, targets))
        rows, target = examples.rows - origin, examples.target - target_origin
        weighted = rows * examples.weight[:, None]
        target_weighted = target * examples.weight[:, None]
        weight += float(examples.weight.sum(dtype=np.float64))
        first += weighted.sum(0, dtype=np.float64)
        square += product(weighted.T, rows)
        cross += product(rows.T, target_weighted)
        target_first += target_weighted.sum(0, dtype=np.float64)
        target_square += (target_weighted * target).sum(0, dtype=np.float64)
    if origin is None or target_origin is None or weight <= 0:
        raise InfoscopeError(
            "there is nothing to train on: no image or patch has a target that counts"
            "; check the labels, and what is ignored"
        )
    first, target_first = first / weight, target_first / weight
    covariance = square / weight - np.outer(first, first)
    variance = np.diagonal(covariance)
    # Rounding leaves a constant feature a variance of about 1e-7 of its square.
    still = variance <= 1e-10 * np.maximum((origin + first) ** 2, 1e-20)
    std = np.where(still, 1.0, np.sqrt(np.where(still, 1.0, variance)))
    moving = np.where(still, 0.0, 1.0)
    return Moments(
        weight=weight,
        mean=origin + first,
        std=std,
        correlation=covariance / np.outer(std, std) * np.outer(moving, moving),
        target_mean=target_origin + target_first,
        cross=(cross / weight - np.outer(first, target_first)) / std[:, None] * moving[:, None],
        target_spread=np.maximum(target_square / weight - target_first**2, 0.0),
    )


# The logit of a class that training never saw: finite, so that it can be interpolated, and its share is 0.
NEVER = -1e4


def ridge_path(moments: Moments, solver: RidgePath) -> list[Linear]:
    """A head for each strength; the bias is free.

    Minimises half of the mean squared error + strength / 2 * the sum of squared weights of standardised features.

    Args:
        moments: of the training examples and their targets.
        solver: the strengths.

    Example:
        >>> rows = np.array([[0.0], [1.0], [2.0]], np.float32)
        >>> moments = moments_of(lambda: iter([Examples(rows, 3 * rows + 1, np.ones(3, np.float32))]))
        >>> [head] = ridge_path(moments, RidgePath((1e-9,)))
        >>> head(rows).round(3).ravel().tolist()
        [1.0, 4.0, 7.0]
    """
    with one_blas_thread():
        spectrum, axes = np.linalg.eigh(moments.correlation)
    spectrum = np.maximum(spectrum, 0.0)
    turned = product(axes.T, moments.cross)
    heads = []
    for strength in solver.strengths:
        weight = product(axes, turned / (spectrum + strength)[:, None]) / moments.std[:, None]
        bias = moments.target_mean - moments.mean @ weight
        heads.append(Linear(weight.T.astype(np.float32), bias.astype(np.float32)))
    return heads


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
    """

    strength: float
    linear: Linear
    objective: float
    passes: int


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
        keep_bytes: standardised examples are kept between passes if they fit; else they are read again.
        report: called after each pass over the examples.

    Yields:
        Each strength's head. A class that no example has is never predicted.

    Raises:
        InfoscopeError: no example counts, or all are of one class.

    Example:
        >>> rows = np.array([[-2.0], [-1.0], [1.0], [2.0]], np.float32)
        >>> shares = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
        >>> [fitted] = fit_path(lambda: iter([Examples(rows, shares, np.ones(4, np.float32))]), LogisticPath((0.1,)))
        >>> fitted.linear.converged, fitted.linear(rows).argmax(1).tolist()
        (True, [0, 0, 1, 1])
    """
    from scipy.optimize import minimize

    moments = moments or moments_of(stream)
    standard = remembered(_standardised(stream, moments), keep_bytes)
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
            solution = minimize(
                problem,
                start,
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": solver.iterations, "ftol": solver.tolerance, "gtol": 1e-7, "maxcor": 20},
            )
        weight, bias = problem.unpack(solution.x)
        yield Fitted(
            strength=strength,
            # A line search that cannot do better in float32 has arrived as well.
            linear=_raw(weight, bias, moments, present, converged=int(solution.status) != 1),
            objective=float(solution.fun),
            passes=int(solution.nfev),
        )


# Thousands of steps call it, on arrays that `fit_path` made: under pytest, checking them would cost more than they do.
@no_type_check
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
        all_present = bool(self.present.all())
        for examples in self.stream():
            rows, counts = torch.from_numpy(examples.rows), torch.from_numpy(examples.weight)
            shares = torch.from_numpy(examples.target if all_present else examples.target[:, self.present]).T
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


def remembered(stream: Stream, most: int) -> Stream:
    """The same examples, held in memory from the first pass on if they take no more than ``most`` bytes."""
    held: list[Examples] | None = []
    complete = False

    def examples() -> Iterator[Examples]:
        nonlocal held, complete
        if complete and held is not None:
            yield from held
            return
        held, size = [], 0
        for example in stream():
            size += example.rows.nbytes + example.target.nbytes + example.weight.nbytes
            if size > most:
                held = None
            if held is not None:
                held.append(example)
            yield example
        complete = held is not None

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
    *,
    converged: bool,
) -> Linear:
    """The layer on features as they are, for all classes."""
    scaled = weight / moments.std[:, None]
    full = np.zeros((len(present), len(weight)), np.float32)
    offset = np.full(len(present), NEVER, np.float32)
    full[present] = scaled.T
    offset[present] = bias - moments.mean @ scaled
    return Linear(full, offset, converged)
