"""Accuracy, confidence and calibration, and how they change with a removal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import entr, expit, log_softmax

from infoscope.analyses.zeroshot.classes import UNKNOWN
from infoscope.options import Probability
from infoscope.runtime.executor import one_blas_thread

# Guo et al. 2017 (arXiv 1706.04599), section 5.
CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Scores:
    """The result for each image.

    Attributes:
        prediction: the class with the largest logit; of several, the first.
        rank: how many classes rank before the image's own, so 0 where that is predicted; `UNKNOWN` without a class.
        confidence: probability of the predicted class.
        true_probability: probability of the image's own class; NaN without one.
        entropy: entropy of the probabilities over classes, in nats; under ``sigmoid``, the sum over the classes' own.
        margin: probability of the predicted class minus that of the next.
    """

    prediction: Int64[np.ndarray, " image"]
    rank: Int64[np.ndarray, " image"]
    confidence: Float64[np.ndarray, " image"]
    true_probability: Float64[np.ndarray, " image"]
    entropy: Float64[np.ndarray, " image"]
    margin: Float64[np.ndarray, " image"]

    def __len__(self) -> int:
        return len(self.prediction)

    @property
    def right(self) -> Bool[np.ndarray, " image"]:
        """Which images are predicted to be of their own class."""
        right: np.ndarray = self.rank == 0
        return right

    @classmethod
    def joined(cls, parts: list[Scores]) -> Scores:
        """The results of several sets of images, one set after the other."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in SCORES})


def score_logits(
    logits: Float64[np.ndarray, "image class"],
    label: Int64[np.ndarray, " image"],
    probability: Probability = "softmax",
) -> Scores:
    """The scores of each image from its logits.

    Args:
        logits: logits of all classes, of which there are at least two.
        label: the image's class, or `UNKNOWN`.
        probability: how logits become probabilities. ``softmax`` asks which of the classes the image is of, and a bias
            common to all cancels; ``sigmoid`` asks for each class separately whether the text fits.

    Example:
        >>> scores = score_logits(np.log([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]]), np.array([0, 2]))
        >>> scores.prediction.tolist(), scores.rank.tolist(), scores.confidence.round(3).tolist()
        ([0, 0], [0, 2], [0.7, 0.5])
        >>> scores.margin.round(3).tolist(), scores.entropy.round(3).tolist()
        ([0.5, 0.25], [0.802, 1.04])
    """
    rows = np.arange(len(logits))
    known = label != UNKNOWN
    own = np.where(known, label, 0)
    # Ranked by logits, since different logits may give equal probabilities.
    mine = logits[rows, own][:, None]
    before = (logits > mine) | ((logits == mine) & (np.arange(logits.shape[1]) < own[:, None]))
    if probability == "softmax":
        chances = np.exp(log_softmax(logits, axis=1))
        entropy = entr(chances).sum(1)
    else:
        chances = expit(logits)
        entropy = (entr(chances) + entr(expit(-logits))).sum(1)
    prediction = logits.argmax(1)
    top = np.partition(chances, -2, axis=1)[:, -2:]
    return Scores(
        prediction=prediction,
        rank=np.where(known, before.sum(1), UNKNOWN),
        confidence=chances[rows, prediction],
        true_probability=np.where(known, chances[rows, own], np.nan),
        entropy=entropy,
        margin=top[:, 1] - top[:, 0],
    )


def calibration_gaps(
    confidence: Float64[np.ndarray, " image"], right: Bool[np.ndarray, " image"], bins: int = CALIBRATION_BINS
) -> tuple[Int64[np.ndarray, " image"], Float64[np.ndarray, " image"]]:
    """Each image's bin, and its gap: right or wrong (1 or 0) minus its confidence.

    Bins have equal width and include their upper ends. The calibration error is the sum over bins of the absolute sum
    of gaps, divided by the number of images.
    """
    binned = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return binned, right.astype(np.float64) - confidence


def calibration_error(
    confidence: Float64[np.ndarray, " image"], right: Bool[np.ndarray, " image"], bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error (Guo et al. 2017): how far confidence is from accuracy in bins, mean over images.

    Args:
        confidence: probability of the prediction.
        right: whether the prediction is right.
        bins: number of bins, of equal width.

    Returns:
        0 to 1; NaN without images.

    Example:
        >>> round(calibration_error(np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, True, True, False])), 3)
        0.1
    """
    if not len(confidence):
        return float("nan")
    binned, gap = calibration_gaps(confidence, right, bins)
    return float(np.abs(np.bincount(binned, gap, bins)).sum() / len(confidence))


def top_k(rank: Int64[np.ndarray, " image"], k: int) -> float:
    """Share of images whose own class is among the k most probable.

    Example:
        >>> top_k(np.array([0, 3, 7]), 5)
        0.6666666666666666
    """
    return float((rank < k).mean())


LEVEL = 0.95


SCORES = tuple(field.name for field in fields(Scores))
"""The names of the scores of an image."""


@dataclass(frozen=True)
class Estimate:
    """A mean over images, and its bootstrap interval.

    Attributes:
        value: the mean over the images.
        lower: 2.5th percentile of the mean over draws of as many images, with replacement.
        upper: 97.5th percentile.
    """

    value: float
    lower: float
    upper: float


def estimate_levels(scores: Scores, draws: int, seed: int) -> dict[str, Estimate]:
    """Accuracy and other means of one variant.

    Args:
        scores: scores of the images; all images have a class, or none has.
        draws: number of draws of the bootstrap.
        seed: seed of the draws; the same images are drawn for every variant.

    Returns:
        ``entropy``, ``margin`` and ``confidence``; with classes ``accuracy`` and ``true_probability`` too.
    """
    means = {"entropy": scores.entropy, "margin": scores.margin, "confidence": scores.confidence}
    if _labelled(scores):
        means |= {"accuracy": scores.right.astype(np.float64), "true_probability": scores.true_probability}
    return _estimates(means, {}, draws, seed)


def estimate_changes(before: Scores, after: Scores, draws: int, seed: int) -> dict[str, Estimate]:
    """How predictions and confidence changed, with each image compared to itself.

    Args:
        before: scores of the untouched model.
        after: scores of the variant, on the same images.
        draws: as for `estimate_levels`.
        seed: as for `estimate_levels`.

    Returns:
        ``flips`` (share of images with a different prediction), ``confidence_rose`` (share of images whose confidence
        rose, whatever the predicted class), and mean changes of ``entropy``, ``margin`` and ``confidence``; with
        classes also ``right_to_wrong``, ``wrong_to_right``, ``true_rose`` and the changes of ``accuracy``,
        ``true_probability`` and ``calibration_error``.

    Example:
        >>> label = np.array([0, 0, 1])
        >>> before = score_logits(np.log([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]), label)
        >>> after = score_logits(np.log([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]]), label)
        >>> changes = estimate_changes(before, after, draws=100, seed=0)
        >>> {name: round(changes[name].value, 3) for name in ("flips", "right_to_wrong", "wrong_to_right", "true_rose")}
        {'flips': 0.667, 'right_to_wrong': 0.333, 'wrong_to_right': 0.333, 'true_rose': 0.667}
        >>> round(changes["true_probability_change"].value, 3), round(changes["accuracy_change"].value, 3)
        (0.033, 0.0)
    """
    means = {
        "flips": after.prediction != before.prediction,
        "confidence_rose": after.confidence > before.confidence,
        "entropy_change": after.entropy - before.entropy,
        "margin_change": after.margin - before.margin,
        "confidence_change": after.confidence - before.confidence,
    }
    calibrated = {}
    if _labelled(before):
        means |= {
            "right_to_wrong": before.right & ~after.right,
            "wrong_to_right": ~before.right & after.right,
            "true_rose": after.true_probability > before.true_probability,
            "accuracy_change": after.right.astype(np.float64) - before.right,
            "true_probability_change": after.true_probability - before.true_probability,
        }
        calibrated = {"calibration_error_change": (before, after)}
    return _estimates({name: values.astype(np.float64) for name, values in means.items()}, calibrated, draws, seed)


def _labelled(scores: Scores) -> bool:
    return bool((scores.rank >= 0).all())


def _estimates(
    means: Mapping[str, Float64[np.ndarray, " image"]],
    calibrated: Mapping[str, tuple[Scores, Scores]],
    draws: int,
    seed: int,
) -> dict[str, Estimate]:
    """Means over images and differences of calibration errors, with percentile intervals.

    Draws are made one at a time, as counts of how often each image is drawn, so that memory does not grow with their
    number.
    """
    columns = np.stack(list(means.values()))
    count = columns.shape[1]
    random = np.random.default_rng(seed)
    drawn = np.empty((draws, len(columns)))
    errors = {name: np.empty(draws) for name in calibrated}
    gaps = {
        name: [calibration_gaps(scores.confidence, scores.right) for scores in pair]
        for name, pair in calibrated.items()
    }
    with one_blas_thread():
        for draw in range(draws):
            times = np.bincount(random.integers(0, count, count), minlength=count).astype(np.float64)
            drawn[draw] = columns @ times / count
            for name, pair in gaps.items():
                first, second = (
                    np.abs(np.bincount(binned, gap * times, CALIBRATION_BINS)).sum() / count for binned, gap in pair
                )
                errors[name][draw] = second - first
    tail = (1 - LEVEL) / 2
    estimates = {}
    for number, name in enumerate(means):
        lower, upper = np.quantile(drawn[:, number], (tail, 1 - tail))
        estimates[name] = Estimate(float(columns[number].mean()), float(lower), float(upper))
    for name, (before, after) in calibrated.items():
        value = calibration_error(after.confidence, after.right) - calibration_error(before.confidence, before.right)
        lower, upper = np.quantile(errors[name], (tail, 1 - tail))
        estimates[name] = Estimate(value, float(lower), float(upper))
    return estimates
