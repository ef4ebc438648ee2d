"""What logits say of each image, and how sure and how right they are on the whole."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import entr, expit, log_softmax

from infoscope.zeroshot.classes import UNKNOWN
from infoscope.zeroshot.config import Probability

# Guo et al. 2017 (arXiv 1706.04599), section 5.
CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Scores:
    """What is kept of each image.

    Attributes:
        prediction: the class with the largest logit; of several the first.
        rank: how many classes come before the image's own, 0 where it is predicted; `UNKNOWN` without a class.
        confidence: probability of the predicted class.
        true_probability: probability of the image's own class; NaN without one.
        entropy: of the probabilities over classes, in nats; under ``sigmoid`` the sum of each class's own.
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
        """Which predictions are the image's own class."""
        right: np.ndarray = self.rank == 0
        return right

    @classmethod
    def joined(cls, parts: list[Scores]) -> Scores:
        """Those of several lots of images, in their order."""
        return cls(**{each.name: np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)})


def score_logits(
    logits: Float64[np.ndarray, "image class"],
    label: Int64[np.ndarray, " image"],
    probability: Probability = "softmax",
) -> Scores:
    """What logits say of each image.

    Args:
        logits: of every class, at least two.
        label: the image's class, or `UNKNOWN`.
        probability: what logits are turned into. ``softmax`` asks which one of the classes it is, and a bias common to
            all of them cancels; ``sigmoid`` asks of each class by itself whether the text fits.

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
    # Ranked by logits: probabilities may be equal where logits are not.
    mine = logits[rows, own][:, None]
    before = (logits > mine) | ((logits == mine) & (np.arange(logits.shape[1]) < own[:, None]))
    if probability == "softmax":
        chance = np.exp(log_softmax(logits, axis=1))
        entropy = entr(chance).sum(1)
    else:
        chance = expit(logits)
        entropy = (entr(chance) + entr(expit(-logits))).sum(1)
    prediction = logits.argmax(1)
    top = np.partition(chance, -2, axis=1)[:, -2:]
    return Scores(
        prediction=prediction,
        rank=np.where(known, before.sum(1), UNKNOWN),
        confidence=chance[rows, prediction],
        true_probability=np.where(known, chance[rows, own], np.nan),
        entropy=entropy,
        margin=top[:, 1] - top[:, 0],
    )


def calibration_gaps(
    confidence: Float64[np.ndarray, " image"], right: Bool[np.ndarray, " image"], bins: int = CALIBRATION_BINS
) -> tuple[Int64[np.ndarray, " image"], Float64[np.ndarray, " image"]]:
    """Each image's bin of equal width, its upper end inside, and right or wrong (1 or 0) minus its confidence.

    The calibration error is the sum over bins of the absolute sum of gaps, over the number of images.
    """
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return place, right.astype(np.float64) - confidence


def calibration_error(
    confidence: Float64[np.ndarray, " image"], right: Bool[np.ndarray, " image"], bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error (Guo et al. 2017): how far confidence is from accuracy, mean over images by bins.

    Args:
        confidence: probability of the prediction.
        right: whether the prediction is right.
        bins: bins of equal width.

    Returns:
        0 to 1; NaN without images.

    Example:
        >>> round(calibration_error(np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, True, True, False])), 3)
        0.1
    """
    if not len(confidence):
        return float("nan")
    place, gap = calibration_gaps(confidence, right, bins)
    return float(np.abs(np.bincount(place, gap, bins)).sum() / len(confidence))


def top_k(rank: Int64[np.ndarray, " image"], k: int) -> float:
    """Share of images whose own class is among the first k.

    Example:
        >>> top_k(np.array([0, 3, 7]), 5)
        0.6666666666666666
    """
    return float((rank < k).mean())
