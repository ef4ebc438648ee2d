"""What tokens carry, by linear probes on held-out images: their position, their pixels, the picture's label.

Every score is of predictions for images that the probe was not trained on: five parts by image, each predicted by a
probe of the other four. Features are standardised; the ridge's strength is chosen by leave-one-out on the training
part.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped, UInt8

from infoscope.runtime.executor import one_blas_thread

FOLDS = 5
# Our choice: on fewer, a linear probe of some hundred inputs says nothing.
LEAST_TOKENS = 50
STRENGTHS = tuple(10.0**power for power in range(-1, 7))

Vectors = Float32[np.ndarray, "token width"]


@dataclass(frozen=True)
class PositionScore:
    """How well a token tells its own place on the grid.

    Attributes:
        tokens: how many were probed.
        r2: explained variance of row and column, by ridge regression.
        error: mean distance from the predicted to the true place, in patches.
        baseline_error: the same of a probe that sees no token: the mean place.
        top1: share of the tokens whose patch a linear classifier names.
        baseline_top1: the same of the most frequent patch.
    """

    tokens: int
    r2: float
    error: float
    baseline_error: float
    top1: float
    baseline_top1: float


@dataclass(frozen=True)
class PixelScore:
    """How well a token tells the pixels of its patch, by ridge regression.

    Attributes:
        tokens: how many were probed.
        r2: explained variance of all the patch's pixels.
        rmse: root of the mean squared error of a pixel, of 255 levels.
        baseline_rmse: the same of the mean patch.
        colour_r2: explained variance of the patch's mean colour.
    """

    tokens: int
    r2: float
    rmse: float
    baseline_rmse: float
    colour_r2: float


@dataclass(frozen=True)
class LabelScore:
    """How well one token tells its picture's label, by logistic regression.

    Attributes:
        tokens: how many were probed, one an image.
        labels: how many labels there are among them.
        top1: share of the images whose label the probe names.
        baseline_top1: the same of the most frequent label.
    """

    tokens: int
    labels: int
    top1: float
    baseline_top1: float


def probe_position(
    vectors: Vectors, patch: Int64[np.ndarray, " token"], image: Int64[np.ndarray, " token"], grid: int
) -> PositionScore:
    """Position from a token.

    Args:
        vectors: the tokens.
        patch: the place of each, row-major.
        image: the image each is of.
        grid: p, patches per side.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> patch = rng.integers(0, 16, 400)
        >>> vectors = np.stack([*np.divmod(patch, 4), rng.normal(size=400)], axis=1).astype(np.float32)
        >>> score = probe_position(vectors, patch, np.arange(400) // 4, grid=4)
        >>> round(score.r2, 2), score.error < 0.05 < score.baseline_error
        (1.0, True)
    """
    from sklearn.linear_model import RidgeClassifierCV, RidgeCV
    from sklearn.metrics import r2_score

    place = np.stack(np.divmod(patch, grid), axis=1).astype(np.float64)
    found = _predict(RidgeCV(STRENGTHS), vectors, place, image)
    named = _predict(RidgeClassifierCV(STRENGTHS), vectors, patch, image)
    centre, frequent = _blind(place, image), _blind(patch, image)
    return PositionScore(
        tokens=len(vectors),
        r2=float(r2_score(place, found, multioutput="variance_weighted")),
        error=float(np.hypot(*(found - place).T).mean()),
        baseline_error=float(np.hypot(*(centre - place).T).mean()),
        top1=float((named == patch).mean()),
        baseline_top1=float((frequent == patch).mean()),
    )


def probe_pixels(
    vectors: Vectors, pixels: UInt8[np.ndarray, "token channel"], image: Int64[np.ndarray, " token"]
) -> PixelScore:
    """A patch's pixels from its token.

    Args:
        vectors: the tokens.
        pixels: each patch's 8-bit pixels, colours last.
        image: the image each is of.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> pixels = np.repeat(rng.integers(0, 256, (400, 3), dtype=np.uint8), 4, axis=0).reshape(400, 12)
        >>> score = probe_pixels(pixels[:, :6].astype(np.float32), pixels, np.arange(400) // 4)
        >>> score.tokens, score.r2 > 0.3
        (400, True)
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score

    exact = pixels.astype(np.float64)
    colour = exact.reshape(len(exact), -1, 3).mean(1)
    found = _predict(RidgeCV(STRENGTHS), vectors, exact, image)
    found_colour = _predict(RidgeCV(STRENGTHS), vectors, colour, image)
    return PixelScore(
        tokens=len(vectors),
        r2=float(r2_score(exact, found, multioutput="variance_weighted")),
        rmse=float(np.sqrt(((found - exact) ** 2).mean())),
        baseline_rmse=float(np.sqrt(((_blind(exact, image) - exact) ** 2).mean())),
        colour_r2=float(r2_score(colour, found_colour, multioutput="variance_weighted")),
    )


def probe_labels(
    vectors: Vectors, label: Shaped[np.ndarray, " token"], image: Int64[np.ndarray, " token"]
) -> LabelScore:
    """A picture's label from one of its tokens.

    Args:
        vectors: the tokens, one an image.
        label: each image's label.
        image: the image each is of.

    Example:
        >>> label = np.arange(60) % 2
        >>> vectors = np.stack([label, np.random.default_rng(0).normal(size=60)], axis=1).astype(np.float32)
        >>> score = probe_labels(vectors, label, np.arange(60))
        >>> score.labels, score.top1
        (2, 1.0)
    """
    from sklearn.linear_model import LogisticRegression

    found = _predict(LogisticRegression(max_iter=1000), vectors, label, image)
    return LabelScore(
        tokens=len(vectors),
        labels=len(np.unique(label)),
        top1=float((found == label).mean()),
        baseline_top1=float((_blind(label, image) == label).mean()),
    )


def _predict(model: Any, vectors: Vectors, target: np.ndarray, image: Int64[np.ndarray, " token"]) -> np.ndarray:
    """Predictions for each part of the images by a model of the others."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Its many small products are slower on many threads that wait for each other than on one.
    with warnings.catch_warnings(), one_blas_thread():
        # What a thousand steps leave to gain is far below any difference worth naming.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found: np.ndarray = cross_val_predict(
            make_pipeline(StandardScaler(), model),
            vectors.astype(np.float64),
            target,
            groups=image,
            cv=_folds(image),
        )
    return found


def _blind(target: np.ndarray, image: Int64[np.ndarray, " token"]) -> np.ndarray:
    """Predictions of a probe that sees no token: the mean, or for one column of names the most frequent."""
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.model_selection import cross_val_predict

    model = DummyRegressor() if target.ndim == 2 else DummyClassifier()
    nothing: Float64[np.ndarray, "token 1"] = np.zeros((len(target), 1))
    found: np.ndarray = cross_val_predict(model, nothing, target, groups=image, cv=_folds(image))
    return found


def _folds(image: Int64[np.ndarray, " token"]) -> Any:
    """Parts by image: no image is in two of them."""
    from sklearn.model_selection import GroupKFold

    # Shuffled, since every fifth image of a source may be of one label.
    return GroupKFold(min(FOLDS, len(np.unique(image))), shuffle=True, random_state=0)
