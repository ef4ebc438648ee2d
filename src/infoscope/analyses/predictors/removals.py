"""What a linear classifier of mean patch tokens still finds without sets of features, and how sets compare by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8, UInt32
from scipy.stats import t as student
from torch.nn import functional

from infoscope.analyses.predictors.pooled import PooledImages
from infoscope.analyses.probes.classification_head import (
    RECIPES,
    ClassificationHead,
    ClassificationRecipe,
    fit_classification,
)
from infoscope.analyses.probes.convex import Examples, fit_path
from infoscope.analyses.probes.linear import Linear
from infoscope.analyses.probes.metrics import top_k_hits
from infoscope.analyses.probes.recipes import LogisticPath
from infoscope.runtime.partials import Arrays

HeadName = Literal["kept", "own"]
"""Which head reads the edited tokens: the one that was trained on unedited ones, or one trained on edited ones."""
HEADS: tuple[HeadName, ...] = ("kept", "own")

Scores = Float64[np.ndarray, "_ image"]


@dataclass(frozen=True, eq=False)
class Classifier:
    """Images of two splits by their mean patch tokens, and the head that is trained on the unedited ones.

    Attributes:
        train: the images that heads are trained on.
        test: the images that they are scored on; nothing is chosen by them.
        train_labels: each training image's class, from 0.
        test_labels: each test image's class.
        classes: how many there are.
        seed: of what is held out to choose the strength.
    """

    train: PooledImages
    test: PooledImages
    train_labels: Int64[np.ndarray, " train_image"]
    test_labels: Int64[np.ndarray, " test_image"]
    classes: int
    seed: int = 0

    @property
    def recipe(self) -> ClassificationRecipe:
        """The recipe ``simple`` as `infoscope probe` has it at the site of an SAE of patch tokens."""
        return RECIPES["simple"].at_site("patch")

    @cached_property
    def untouched(self) -> ClassificationHead:
        """The head on unedited tokens, its strength chosen on held-out training images."""
        return fit_classification(
            self.train.tokens, self.train_labels, self.recipe, classes=self.classes, seed=self.seed
        )

    @property
    def strength(self) -> float:
        """That head's, with which all others are trained: a choice for each set would add its own noise."""
        return self.untouched.chosen.setting

    def train_own(self, features: UInt32[np.ndarray, " _"]) -> Linear:
        """A head that is trained without some features."""
        rows = self.train.without(features)
        shares = np.zeros((len(rows), self.classes), np.float32)
        shares[np.arange(len(rows)), self.train_labels] = 1
        examples = Examples(rows, shares, np.ones(len(rows), np.float32))
        [fitted] = fit_path(lambda: iter([examples]), LogisticPath((self.strength,)))
        return fitted.linear

    def score(
        self, sets: Sequence[UInt32[np.ndarray, " _"]], advance: Callable[[int], object] = lambda done: None
    ) -> Arrays:
        """What both heads make of the test images without each of some sets.

        Args:
            sets: the sets of features.
            advance: called with 1 after each set.

        Returns:
            ``hits`` and ``loss`` (cross-entropy of the image's own class, in nats), both ``[set, head, image]`` with
            the heads of `HEADS`, and ``pooled``, the mean squared length of what each set takes out of a test image's
            mean patch token.
        """
        hits = np.zeros((len(sets), len(HEADS), len(self.test)), np.uint8)
        loss = np.zeros(hits.shape, np.float32)
        pooled = np.zeros(len(sets))
        for number, features in enumerate(sets):
            removed = self.test.removed(features)
            pooled[number] = float((removed.astype(np.float64) ** 2).sum(1).mean())
            rows = self.test.tokens - removed
            own = self.untouched.linear if not len(features) else self.train_own(features)
            for place, head in enumerate((self.untouched.linear, own)):
                hits[number, place], loss[number, place] = judge(head, rows, self.test_labels)
            advance(1)
        return {"hits": hits, "loss": loss, "pooled": pooled}


def judge(
    head: Linear, rows: Float32[np.ndarray, "image width"], labels: Int64[np.ndarray, " image"]
) -> tuple[UInt8[np.ndarray, " image"], Float32[np.ndarray, " image"]]:
    """Whether each image's class is the first, and the cross-entropy of its class.

    Example:
        >>> hits, loss = judge(Linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)), np.float32([[3, 0]]),
        ...     np.array([1]))
        >>> hits.tolist(), loss.round(2).tolist()
        ([0], [3.049999952316284])
    """
    logits = head(rows)
    loss: np.ndarray = functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), reduction="none"
    ).numpy()
    return top_k_hits(logits, labels, 1).astype(np.uint8), loss


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
