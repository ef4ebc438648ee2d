"""Scores of probes: class by class over pixels, errors of depth, and top-k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64, Integer, Real, Shaped

from infoscope.analyses.probes.targets import ignore_value
from infoscope.errors import InfoscopeError, check_choice

DepthMean = Literal["images", "pixels"]

# Ratios of true and predicted depth, either over the other (Eigen et al. 2014).
DELTAS = (1.25, 1.25**2, 1.25**3)


class Confusion:
    """Counts of true against predicted classes, image by image; exact, so any order and grouping gives the same.

    Scores are of all pixels together, as segmentation benchmarks take them, not means of images' scores. A class that
    is neither in the truth nor predicted has no IoU: it is left out of the mean and named by `absent`.

    Args:
        classes: their names, or how many there are.
        ignore: the true value that does not count, whatever is predicted there; see `ignore_value`.

    Example:
        >>> found = Confusion(("sky", "road", "cat"))
        >>> found.add(np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 2]]))
        >>> found.iou, found.absent
        (array([0.5, 0.5, nan]), ('cat',))
        >>> round(found.mean_iou, 3), round(found.pixel_accuracy, 3), round(found.mean_class_accuracy, 3)
        (0.5, 0.667, 0.75)
    """

    def __init__(self, classes: Sequence[str] | int, ignore: int | None = None):
        self.classes = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
        self.ignore = ignore_value(len(self.classes)) if ignore is None else ignore
        self.counts: Int64[np.ndarray, "truth predicted"] = np.zeros((len(self.classes),) * 2, np.int64)

    def add(self, truth: Integer[np.ndarray, "*shape"], predicted: Integer[np.ndarray, "*shape"]) -> None:
        """Count an image's pixels, or those of several.

        Raises:
            InfoscopeError: a true value is neither a class nor ignored, or a predicted one is no class.
        """
        count = len(self.classes)
        counted = truth != self.ignore
        true, guessed = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
        for name, values in (("true", true), ("predicted", guessed)):
            if len(values) and not (values.min() >= 0 and values.max() < count):
                wrong = int(values.min() if values.min() < 0 else values.max())
                raise InfoscopeError(f"{wrong} is no {name} class: there are {count}, numbered from 0")
        self.counts += np.bincount(true * count + guessed, minlength=count * count).reshape(count, count)

    @property
    def overlaps(self) -> Int64[np.ndarray, "2 class"]:
        """Pixels of each class in both truth and prediction, and in either."""
        hit = np.diag(self.counts)
        both: Int64[np.ndarray, "2 class"] = np.stack([hit, self.counts.sum(0) + self.counts.sum(1) - hit])
        return both

    @property
    def iou(self) -> Float64[np.ndarray, " class"]:
        """Intersection over union of each class; NaN where there is no union."""
        return _share(*self.overlaps)

    @property
    def class_accuracy(self) -> Float64[np.ndarray, " class"]:
        """The share of each class's true pixels that is found; NaN for a class without any."""
        return _share(np.diag(self.counts), self.counts.sum(1))

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes that are neither in the truth nor predicted."""
        return tuple(name for name, iou in zip(self.classes, self.iou, strict=True) if np.isnan(iou))

    @property
    def mean_iou(self) -> float:
        """mIoU: over the classes that are in the truth or predicted; NaN before any pixel."""
        return _mean(self.iou)

    @property
    def mean_class_accuracy(self) -> float:
        """Over the classes in the truth; NaN before any pixel."""
        return _mean(self.class_accuracy)

    @property
    def pixel_accuracy(self) -> float:
        """The share of counted pixels whose class is found; NaN before any pixel."""
        total = int(self.counts.sum())
        return int(np.trace(self.counts)) / total if total else float("nan")


@dataclass(frozen=True)
class DepthScores:
    """Errors of depth.

    Attributes:
        rmse: root mean squared error, in metres.
        abs_rel: mean of error over true depth.
        log10: mean difference of decimal logarithms.
        delta1: share of pixels whose depths differ by a factor under 1.25; ``delta2`` and ``delta3`` under its square
            and cube.
        images: photographs with at least one pixel that counts.
        pixels: pixels that count.
    """

    rmse: float
    abs_rel: float
    log10: float
    delta1: float
    delta2: float
    delta3: float
    images: int
    pixels: int


class DepthErrors:
    """Errors of depth, an image at a time (Eigen et al. 2014, arXiv 1406.2283).

    Two means are published under one name. ``images``: each score of each image, then their mean, as the code of BTS,
    AdaBins and the depth toolbox behind DINOv2's figures does. ``pixels``: over all pixels at once, as Eigen et al.
    define them; there RMSE is larger or equal, if images count alike. Both are kept.

    A pixel counts where its true depth lies strictly between ``least`` and ``most``, which a hole's 0 never does.
    Predictions are clipped to that range, as there.

    Args:
        least: metres.
        most: metres.

    Raises:
        InfoscopeError: the range is empty or reaches 0.

    Example:
        >>> errors = DepthErrors()
        >>> errors.add(np.array([[2.0, 4.0, 0.0]], np.float32), np.array([[2.0, 5.5, 3.0]], np.float32))
        >>> found = errors.scores()
        >>> round(found.rmse, 4), found.abs_rel, found.delta1, found.pixels
        (1.0607, 0.1875, 0.5, 2)
    """

    def __init__(self, least: float = 0.001, most: float = 10.0):
        if not 0 < least < most < float("inf"):
            raise InfoscopeError(f"depths from {least} to {most} m are no range: choose 0 < least < most")
        self.least, self.most = least, most
        # Of every image: its pixels, then their sums of squared error, relative error, logarithms and deltas.
        self._sums: list[tuple[float, ...]] = []

    def add(
        self,
        truth: Float[np.ndarray, "row column"],
        predicted: Float[np.ndarray, "row column"],
        inside: Bool[np.ndarray, "row column"] | None = None,
    ) -> None:
        """Add one image; one without a pixel that counts is left out.

        Args:
            truth: metres, 0 for holes.
            predicted: metres, of the same size.
            inside: further pixels that do not count are False, such as those outside of a crop.

        Raises:
            InfoscopeError: a prediction is NaN where there is a truth.
        """
        valid = (truth > self.least) & (truth < self.most)
        if inside is not None:
            valid &= inside
        true, guessed = truth[valid].astype(np.float64), predicted[valid].astype(np.float64)
        if not len(true):
            return
        if np.isnan(guessed).any():
            raise InfoscopeError("a predicted depth is NaN: the head has diverged; lower its learning rate")
        guessed = guessed.clip(self.least, self.most)
        ratio = np.maximum(true / guessed, guessed / true)
        sums = [
            ((true - guessed) ** 2).sum(),
            (np.abs(true - guessed) / true).sum(),
            np.abs(np.log10(true / guessed)).sum(),
        ]
        self._sums.append((float(len(true)), *map(float, sums), *(float((ratio < delta).sum()) for delta in DELTAS)))

    @property
    def rmse_by_image(self) -> list[float]:
        """RMSE of each image with a pixel that counts, in the order they came."""
        return [float(np.sqrt(sums[1] / sums[0])) for sums in self._sums]

    def scores(self, mean: DepthMean = "images") -> DepthScores:
        """The scores so far, NaN before any image.

        Args:
            mean: over ``images``, each of which counts alike, or over all ``pixels``.
        """
        check_choice("mean", mean, DepthMean)
        names = ("rmse", "abs_rel", "log10", "delta1", "delta2", "delta3")
        if not self._sums:
            return DepthScores(**dict.fromkeys(names, float("nan")), images=0, pixels=0)
        # Sorted, so that the sums are the same in whatever order images came.
        sums = np.array(sorted(self._sums))
        per = sums if mean == "images" else sums.sum(0, keepdims=True)
        means = per[:, 1:] / per[:, :1]
        means[:, 0] = np.sqrt(means[:, 0])
        by_name = dict(zip(names, means.mean(0).tolist(), strict=True))
        return DepthScores(**by_name, images=len(sums), pixels=int(sums[:, 0].sum()))


def top_k_hits(
    scores: Real[np.ndarray, "image class"], label: Int[np.ndarray, " image"], k: int
) -> Bool[np.ndarray, " image"]:
    """Whether each image's label is among the k classes of highest score; of equal scores the lower class comes first.

    Raises:
        InfoscopeError: a score is NaN, k is below 1, or a label is no class.

    Example:
        >>> top_k_hits(np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2]]), np.array([1, 1]), 1)
        array([False, False])
    """
    _check_scores(scores, label)
    if k < 1:
        raise InfoscopeError(f"top-{k} is no score: choose 1 or more")
    own = np.take_along_axis(scores, label[:, None], 1)
    earlier = np.arange(scores.shape[1]) < label[:, None]
    before = (scores > own) | ((scores == own) & earlier)
    hits: Bool[np.ndarray, " image"] = before.sum(1) < k
    return hits


def top_k(scores: Real[np.ndarray, "image class"], label: Int[np.ndarray, " image"], k: int = 1) -> float:
    """The share of images whose label is among the k classes of highest score; 1 where there are no more than k.

    Raises:
        InfoscopeError: as for `top_k_hits`, or there is no image.

    Example:
        >>> top_k(np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2]]), np.array([1, 1]), 2)
        1.0
    """
    if not len(label):
        raise InfoscopeError("there is no image to score")
    return float(top_k_hits(scores, label, k).mean())


def _check_scores(scores: Real[np.ndarray, "image class"], label: Int[np.ndarray, " image"]) -> None:
    if np.isnan(scores).any():
        raise InfoscopeError("a score is NaN: the head has diverged; lower its learning rate")
    if len(label) and not (label.min() >= 0 and label.max() < scores.shape[1]):
        raise InfoscopeError(f"label {label.max()} is no class: there are {scores.shape[1]}, numbered from 0")


def _share(part: Int64[np.ndarray, " class"], whole: Int64[np.ndarray, " class"]) -> Float64[np.ndarray, " class"]:
    share: Float64[np.ndarray, " class"] = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return share


def _mean(values: Shaped[np.ndarray, " class"]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")
