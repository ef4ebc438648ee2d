"""From the scores of removed sets to the effect of a group, with the error that the sets and the images leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import t as student

Scores = Float64[np.ndarray, "_ image"]


@dataclass(frozen=True)
class Difference:
    """The mean score without some sets less that without others that take out equally much.

    Attributes:
        first: mean score without the first sets.
        second: mean score without the others.
        value: the first less the second.
        sets_error: standard error of the value over pairs of sets.
        images_error: its standard error over test images.
        error: both together: the standard error if both sets and images are drawn at random.
        p: two-sided, by Student's t of as many degrees of freedom as there are pairs less one; NaN without an error.
        pairs: pairs of sets.
    """

    first: float
    second: float
    value: float
    sets_error: float
    images_error: float
    error: float
    p: float
    pairs: int


def compare_sets(first: Scores, second: Scores) -> Difference:
    """Compare sets in pairs, the first of one side with the first of the other and so on.

    Args:
        first: the score of each image without each of the sets, ``[set, image]``.
        second: the same without the sets of the other side; a side's surplus of sets is left out.

    Example:
        >>> found = compare_sets(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 0.0], [1.0, 0.0]]))
        >>> found.first, found.second, found.value, found.pairs
        (0.75, 0.25, 0.5, 2)
    """
    pairs = min(len(first), len(second))
    first, second = first[:pairs], second[:pairs]
    each = first - second
    by_set, by_image = each.mean(1), each.mean(0)
    sets_error = float(by_set.std(ddof=1) / np.sqrt(pairs)) if pairs > 1 else float("nan")
    images = each.shape[1]
    images_error = float(by_image.std(ddof=1) / np.sqrt(images)) if images > 1 else float("nan")
    value, error = float(each.mean()), _both(each, sets_error, images_error)
    p = float(2 * student.sf(abs(value) / error, pairs - 1)) if error > 0 else float("nan")
    return Difference(float(first.mean()), float(second.mean()), value, sets_error, images_error, error, p, pairs)


def _both(each: Scores, sets_error: float, images_error: float) -> float:
    """The standard error of the mean where sets and images are both drawn at random.

    Either error holds what varies from image to image and set to set at once, which counts one time only.
    """
    pairs, images = each.shape
    if min(pairs, images) < 2:
        return float("nan")
    mixed = each - each.mean(0) - each.mean(1, keepdims=True) + each.mean()
    twice = float((mixed**2).sum()) / ((pairs - 1) * (images - 1)) / (pairs * images)
    return float(np.sqrt(max(sets_error**2 + images_error**2 - twice, sets_error**2, images_error**2)))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction of several tests: the chance of one false find among them, if a test under it is taken for one.

    NaN stays and does not count.

    Example:
        >>> [round(value, 3) for value in holm([0.01, 0.5, 0.03, float("nan")])]
        [0.03, 0.5, 0.06, nan]
    """
    values = np.array(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    found = np.full(len(values), np.nan)
    found[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0) if len(order) else []
    return [float(value) for value in found]
