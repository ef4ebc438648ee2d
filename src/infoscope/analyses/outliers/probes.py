"""What tokens carry, by linear probes: their position, the pixels of their patch, the label of the picture.

Every score is on images that the probe was not trained on: the images are divided into five folds, and each fold is
predicted by a probe that was trained on the other four. Inputs are standardised, and the strength of the ridge is
chosen by leave-one-out on the training folds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped, UInt8

from infoscope.analyses.outliers.passes import TokenIndex, TokenReadings
from infoscope.analyses.outliers.record import LabelScore, PixelScore, PositionScore, Probes
from infoscope.runtime.executor import one_blas_thread
from infoscope.runtime.progress import progress

FOLDS = 5
# Our choice: on fewer tokens, a linear probe with some hundred inputs says nothing.
LEAST_TOKENS = 50
# Our choice: each fold that is held out then leaves some images of the label to train on.
LEAST_OF_LABEL = 2 * FOLDS
STRENGTHS = tuple(10.0**power for power in range(-1, 7))

Vectors = Float32[np.ndarray, "token width"]
Score = TypeVar("Score")


def probe_position(
    vectors: Vectors, patch: Int64[np.ndarray, " token"], image: Int64[np.ndarray, " token"], grid: int
) -> PositionScore:
    """Predict a token's position.

    Args:
        vectors: the tokens.
        patch: the patch of each, row-major.
        image: the image that each is from.
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

    position = np.stack(np.divmod(patch, grid), axis=1).astype(np.float64)
    predicted = _predict(RidgeCV(STRENGTHS), vectors, position, image)
    predicted_patch = _predict(RidgeClassifierCV(STRENGTHS), vectors, patch, image)
    mean, most_frequent = _predict_blindly(position, image), _predict_blindly(patch, image)
    return PositionScore(
        tokens=len(vectors),
        r2=float(r2_score(position, predicted, multioutput="variance_weighted")),
        error=float(np.hypot(*(predicted - position).T).mean()),
        baseline_error=float(np.hypot(*(mean - position).T).mean()),
        top1=float((predicted_patch == patch).mean()),
        baseline_top1=float((most_frequent == patch).mean()),
    )


def probe_pixels(
    vectors: Vectors, pixels: UInt8[np.ndarray, "token channel"], image: Int64[np.ndarray, " token"]
) -> PixelScore:
    """Predict a patch's pixels from its token.

    Args:
        vectors: the tokens.
        pixels: each patch's 8-bit pixels, colours last.
        image: the image that each token is from.

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
    predicted = _predict(RidgeCV(STRENGTHS), vectors, exact, image)
    predicted_colour = _predict(RidgeCV(STRENGTHS), vectors, colour, image)
    return PixelScore(
        tokens=len(vectors),
        r2=float(r2_score(exact, predicted, multioutput="variance_weighted")),
        rmse=float(np.sqrt(((predicted - exact) ** 2).mean())),
        baseline_rmse=float(np.sqrt(((_predict_blindly(exact, image) - exact) ** 2).mean())),
        colour_r2=float(r2_score(colour, predicted_colour, multioutput="variance_weighted")),
    )


def probe_labels(
    vectors: Vectors, label: Shaped[np.ndarray, " token"], image: Int64[np.ndarray, " token"]
) -> LabelScore:
    """Predict a picture's label from one of its tokens.

    Args:
        vectors: the tokens, one an image.
        label: each image's label.
        image: the image that each token is from.

    Example:
        >>> label = np.arange(60) % 2
        >>> vectors = np.stack([label, np.random.default_rng(0).normal(size=60)], axis=1).astype(np.float32)
        >>> score = probe_labels(vectors, label, np.arange(60))
        >>> score.labels, score.top1
        (2, 1.0)
    """
    from sklearn.linear_model import LogisticRegression

    predicted = _predict(LogisticRegression(max_iter=1000), vectors, label, image)
    return LabelScore(
        tokens=len(vectors),
        labels=len(np.unique(label)),
        top1=float((predicted == label).mean()),
        baseline_top1=float((_predict_blindly(label, image) == label).mean()),
    )


def _predict(model: Any, vectors: Vectors, target: np.ndarray, image: Int64[np.ndarray, " token"]) -> np.ndarray:
    """Predictions for each fold of the images, by a model that was trained on the others."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Many threads that wait for each other are slower than one at so many small products.
    with warnings.catch_warnings(), one_blas_thread():
        # After a thousand steps, what is left to gain is far below any difference worth reporting.
        warnings.simplefilter("ignore", ConvergenceWarning)
        predicted: np.ndarray = cross_val_predict(
            make_pipeline(StandardScaler(), model),
            vectors.astype(np.float64),
            target,
            groups=image,
            cv=_folds(image),
        )
    return predicted


def _predict_blindly(target: np.ndarray, image: Int64[np.ndarray, " token"]) -> np.ndarray:
    """Predictions of a probe that sees no tokens: the mean of numbers, or the most frequent name."""
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.model_selection import cross_val_predict

    model = DummyRegressor() if target.ndim == 2 else DummyClassifier()
    nothing: Float64[np.ndarray, "token 1"] = np.zeros((len(target), 1))
    predicted: np.ndarray = cross_val_predict(model, nothing, target, groups=image, cv=_folds(image))
    return predicted


def _folds(image: Int64[np.ndarray, " token"]) -> Any:
    """Folds by image, so that no image is in two of them."""
    from sklearn.model_selection import GroupKFold

    # Shuffled, since every fifth image of a source may be of one label.
    return GroupKFold(min(FOLDS, len(np.unique(image))), shuffle=True, random_state=0)


@dataclass(frozen=True)
class TokenPairs:
    """Outlier tokens, each with a normal token."""

    outlier: TokenIndex
    normal: TokenIndex


NO_PAIRS = TokenPairs(TokenIndex.none(), TokenIndex.none())


def pair_within_images(
    outlier: Bool[np.ndarray, "image patch"], most: int, random: np.random.Generator, *, one_per_image: bool = False
) -> TokenPairs:
    """Pair outlier tokens with normal tokens of the same image, so that both kinds have the same pictures and labels.

    Args:
        outlier: which tokens of each image are outliers.
        most: most pairs; if there are more, this many are drawn.
        random: the generator that draws.
        one_per_image: take a single outlier token from each image.

    Example:
        >>> outlier = np.array([[True, False, False], [False, False, False], [False, True, False]])
        >>> pairs = pair_within_images(outlier, 10, np.random.default_rng(0))
        >>> pairs.outlier.row.tolist(), pairs.outlier.patch.tolist()
        ([0, 2], [0, 1])
        >>> pairs.normal.row.tolist(), bool(outlier[pairs.normal.row, pairs.normal.patch].any())
        ([0, 2], False)
    """
    rows, outliers, normals = [], [], []
    for row in np.flatnonzero(outlier.any(1)).tolist():
        high, normal = np.flatnonzero(outlier[row]), np.flatnonzero(~outlier[row])
        count = min(len(high), len(normal), 1 if one_per_image else len(high))
        outliers.append(high if count == len(high) else np.sort(random.permutation(high)[:count]))
        normals.append(random.permutation(normal)[:count])
        rows.append(np.full(count, row))
    if not rows:
        return NO_PAIRS
    all_rows = np.concatenate(rows)
    drawn = _draw(len(all_rows), most, random)
    return TokenPairs(
        TokenIndex(all_rows, np.concatenate(outliers)).take(drawn),
        TokenIndex(all_rows, np.concatenate(normals)).take(drawn),
    )


def pair_within_patches(outlier: Bool[np.ndarray, "image patch"], most: int, random: np.random.Generator) -> TokenPairs:
    """Pair outlier tokens with normal tokens at the same patch of other images, so that both kinds are equally placed.

    Outlier tokens without a partner are left out: a patch that is always an outlier has nothing to be compared with.

    Args:
        outlier: which tokens of each image are outliers.
        most: most pairs; if there are more, this many are drawn.
        random: the generator that draws.

    Example:
        >>> outlier = np.array([[True, False, True], [False, True, True]])
        >>> pairs = pair_within_patches(outlier, 10, np.random.default_rng(0))
        >>> pairs.outlier.patch.tolist(), pairs.outlier.row.tolist(), pairs.normal.row.tolist()
        ([0, 1], [0, 1], [1, 0])
    """
    patches, outliers, normals = [], [], []
    for patch in np.flatnonzero(outlier.any(0)).tolist():
        high, normal = np.flatnonzero(outlier[:, patch]), np.flatnonzero(~outlier[:, patch])
        count = min(len(high), len(normal))
        outliers.append(high if count == len(high) else np.sort(random.permutation(high)[:count]))
        normals.append(random.permutation(normal)[:count])
        patches.append(np.full(count, patch))
    if not patches:
        return NO_PAIRS
    all_patches = np.concatenate(patches)
    drawn = _draw(len(all_patches), most, random)
    return TokenPairs(
        TokenIndex(np.concatenate(outliers), all_patches).take(drawn),
        TokenIndex(np.concatenate(normals), all_patches).take(drawn),
    )


def _draw(count: int, most: int, random: np.random.Generator) -> Int64[np.ndarray, " drawn"]:
    """All positions below ``count``, or ``most`` of them drawn without replacement; ascending."""
    return np.arange(count) if count <= most else np.sort(random.permutation(count)[:most])


@dataclass(frozen=True)
class ProbeTokens:
    """The tokens that each probe is trained and tested on. A probe that is not possible has none, and a note says why.

    Attributes:
        position: outlier tokens, and normal ones at the same patches.
        pixels: outlier tokens, and normal ones of the same images.
        labels: one outlier token an image, and one normal token of the same image.
        label: the label of each of these images.
        notes: why probes are missing.
    """

    position: TokenPairs
    pixels: TokenPairs
    labels: TokenPairs
    label: Shaped[np.ndarray, " token"]
    notes: list[str]

    @property
    def chosen(self) -> dict[str, TokenIndex]:
        """The tokens by name, for the pass that reads them."""
        pairs = {"position": self.position, "pixels": self.pixels, "labels": self.labels}
        return {
            f"{name}_{kind}": tokens
            for name, pair in pairs.items()
            for kind, tokens in (("outlier", pair.outlier), ("normal", pair.normal))
            if len(tokens)
        }

    @property
    def label_rows(self) -> Int64[np.ndarray, " row"]:
        """The rows of the sample that the label probe needs, ascending."""
        return self.labels.outlier.row

    def score(self, tokens: TokenReadings, special: bool, grid: int) -> Probes:
        """Train and test every probe that is possible.

        Args:
            tokens: the tokens, from `read_tokens`.
            special: whether the first token is a CLS token.
            grid: p, patches per side.
        """
        vectors, label, rows = tokens.vectors, self.label, self.label_rows
        has_special = special and len(rows) > 0
        with progress("Probing", len(self.chosen) + has_special, "probes") as advance:

            def both(pair: TokenPairs, probe: Callable[[str, TokenIndex], Score]) -> tuple[Score | None, Score | None]:
                """A probe on outlier tokens and on normal ones; None without tokens."""
                if not len(pair.outlier):
                    return None, None
                outlier = probe("outlier", pair.outlier)
                advance()
                normal = probe("normal", pair.normal)
                advance()
                return outlier, normal

            position = both(
                self.position,
                lambda kind, index: probe_position(vectors[f"position_{kind}"], index.patch, index.row, grid),
            )
            pixels = both(
                self.pixels,
                lambda kind, index: probe_pixels(vectors[f"pixels_{kind}"], tokens.pixels[f"pixels_{kind}"], index.row),
            )
            labels = both(self.labels, lambda kind, index: probe_labels(vectors[f"labels_{kind}"], label, index.row))
            of_special = probe_labels(tokens.first, label, rows) if has_special else None
            advance(int(has_special))
        return Probes(*position, *pixels, *labels, labels_special=of_special, notes=self.notes)


def choose_tokens(
    outlier: Bool[np.ndarray, "image patch"], label: list[str] | None, most: int, seed: int
) -> ProbeTokens:
    """Choose the tokens for every probe.

    Args:
        outlier: which tokens of each image are outliers.
        label: each image's label, if there are labels.
        most: most tokens of a kind; 0 for no probe.
        seed: seed of the draws.

    Example:
        >>> choose_tokens(np.zeros((3, 16), bool), None, 100, 0).notes[0]
        'position: 0 outlier tokens have a normal one at the same patch, in 0 images; a probe needs 50 in 5'
    """
    if not most:
        return ProbeTokens(NO_PAIRS, NO_PAIRS, NO_PAIRS, np.array([], np.str_), ["any kind: --probe-tokens is 0"])
    notes: list[str] = []
    position = pair_within_patches(outlier, most, np.random.default_rng([seed, 0]))
    patches = len(np.unique(position.outlier.patch))
    # The normal tokens are from other images, and perhaps from fewer.
    images = min(len(np.unique(position.outlier.row)), len(np.unique(position.normal.row)))
    if len(position.outlier) < LEAST_TOKENS or images < FOLDS:
        notes.append(
            f"position: {len(position.outlier)} outlier tokens have a normal one at the same patch, in {images} "
            f"images; a probe needs {LEAST_TOKENS} in {FOLDS}"
        )
        position = NO_PAIRS
    elif patches < 2:
        notes.append("position: all outlier tokens that can be compared sit on one patch")
        position = NO_PAIRS
    pixels = pair_within_images(outlier, most, np.random.default_rng([seed, 1]))
    if len(pixels.outlier) < LEAST_TOKENS or len(np.unique(pixels.outlier.row)) < FOLDS:
        notes.append(
            f"pixels: {len(pixels.outlier)} outlier tokens in {len(np.unique(pixels.outlier.row))} images; "
            f"a probe needs {LEAST_TOKENS} in {FOLDS}"
        )
        pixels = NO_PAIRS
    labels, named = NO_PAIRS, np.array([], np.str_)
    if label is None:
        notes.append("labels: none were given")
    else:
        labels = pair_within_images(outlier, most, np.random.default_rng([seed, 2]), one_per_image=True)
        named = np.array(label)[labels.outlier.row]
        values, counts = np.unique(named, return_counts=True)
        frequent = np.isin(named, values[counts >= LEAST_OF_LABEL])
        if len(np.unique(named[frequent])) < 2 or int(frequent.sum()) < LEAST_TOKENS:
            notes.append(
                f"labels: {int(frequent.sum())} images with outlier tokens are of a label with {LEAST_OF_LABEL} of "
                f"them; a probe needs {LEAST_TOKENS} and two such labels"
            )
            labels, named = NO_PAIRS, np.array([], np.str_)
        else:
            labels, named = TokenPairs(labels.outlier.take(frequent), labels.normal.take(frequent)), named[frequent]
    return ProbeTokens(position, pixels, labels, named, notes)
