"""What a variant changes, image by image, against the untouched model, with bootstrap intervals over images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from infoscope.execution.limits import one_blas_thread
from infoscope.zeroshot.metrics import CALIBRATION_BINS, Scores, calibration_error, calibration_gaps

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over images and its interval.

    Attributes:
        value: on the images.
        lower: 2.5th percentile over draws of as many images, with replacement.
        upper: 97.5th percentile.
    """

    value: float
    lower: float
    upper: float


def estimate_levels(scores: Scores, draws: int, seed: int) -> dict[str, Estimate]:
    """Accuracy and the means of a variant by itself.

    Args:
        scores: of the images, all with a class or none.
        draws: of the bootstrap.
        seed: of the draws. The same images are drawn for every variant.

    Returns:
        ``entropy``, ``margin`` and ``confidence``; with classes ``accuracy`` and ``true_probability`` too.
    """
    means = {"entropy": scores.entropy, "margin": scores.margin, "confidence": scores.confidence}
    if _labelled(scores):
        means |= {"accuracy": scores.right.astype(np.float64), "true_probability": scores.true_probability}
    return _estimates(means, {}, draws, seed)


def estimate_changes(before: Scores, after: Scores, draws: int, seed: int) -> dict[str, Estimate]:
    """How predictions and confidence changed, each image compared with itself.

    Args:
        before: of the untouched model.
        after: of the variant, on the same images.
        draws: as for `estimate_levels`.
        seed: likewise.

    Returns:
        ``flips`` (share of images with another prediction), ``confidence_rose`` (share whose predicted class, whichever
        it is, became more probable), and mean changes of ``entropy``, ``margin`` and ``confidence``; with classes also
        ``right_to_wrong``, ``wrong_to_right``, ``true_rose`` and the changes of ``accuracy``, ``true_probability`` and
        ``calibration_error``.

    Example:
        >>> from infoscope.zeroshot.metrics import score_logits
        >>> label = np.array([0, 0, 1])
        >>> before = score_logits(np.log([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]), label)
        >>> after = score_logits(np.log([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]]), label)
        >>> found = estimate_changes(before, after, draws=100, seed=0)
        >>> {name: round(found[name].value, 3) for name in ("flips", "right_to_wrong", "wrong_to_right", "true_rose")}
        {'flips': 0.667, 'right_to_wrong': 0.333, 'wrong_to_right': 0.333, 'true_rose': 0.667}
        >>> round(found["true_probability_change"].value, 3), round(found["accuracy_change"].value, 3)
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
    return _estimates({name: each.astype(np.float64) for name, each in means.items()}, calibrated, draws, seed)


def _labelled(scores: Scores) -> bool:
    return bool((scores.rank >= 0).all())


def _estimates(
    means: Mapping[str, Float64[np.ndarray, " image"]],
    calibrated: Mapping[str, tuple[Scores, Scores]],
    draws: int,
    seed: int,
) -> dict[str, Estimate]:
    """Means over images and differences of calibration errors, with percentile intervals.

    A draw is how often each image is in it, so that memory does not grow with the number of draws.
    """
    columns = np.stack(list(means.values()))
    count = columns.shape[1]
    random = np.random.default_rng(seed)
    drawn = np.empty((draws, len(columns)))
    errors = {name: np.empty(draws) for name in calibrated}
    binned = {
        name: [calibration_gaps(scores.confidence, scores.right) for scores in pair]
        for name, pair in calibrated.items()
    }
    for draw in range(draws):
        times = np.bincount(random.integers(0, count, count), minlength=count).astype(np.float64)
        with one_blas_thread():
            drawn[draw] = columns @ times / count
        for name, pair in binned.items():
            first, second = (
                np.abs(np.bincount(place, gap * times, CALIBRATION_BINS)).sum() / count for place, gap in pair
            )
            errors[name][draw] = second - first
    tail = (1 - LEVEL) / 2
    found = {}
    for number, name in enumerate(means):
        lower, upper = np.quantile(drawn[:, number], (tail, 1 - tail))
        found[name] = Estimate(float(columns[number].mean()), float(lower), float(upper))
    for name, (before, after) in calibrated.items():
        value = calibration_error(after.confidence, after.right) - calibration_error(before.confidence, before.right)
        lower, upper = np.quantile(errors[name], (tail, 1 - tail))
        found[name] = Estimate(value, float(lower), float(upper))
    return found
