"""Whether a score repeats: between halves of the images, and over the pairs that two scores share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt32
from scipy.stats import rankdata

from infoscope.options import EmptyPairs
from infoscope.scope.score import PairScores, feature_mean


@dataclass(frozen=True)
class Reliability:
    """Agreement between the scores over even ranks and those over odd ranks.

    Attributes:
        features: number of features that have both.
        spearman: rank correlation between the halves; where above 0, corrected to full length by Spearman and Brown's
            formula.
        pearson: linear correlation, corrected in the same way. Both are NaN with fewer than three features, or
            where a half is constant.
    """

    features: int
    spearman: float
    pearson: float


@dataclass(frozen=True)
class Agreement:
    """A variant of CDS against CDS itself, over the features that have both.

    Attributes:
        features: number of these features.
        mean: mean of the variant.
        cds_mean: mean of CDS, over the same features.
        spearman: rank correlation; NaN with fewer than three features or where either is constant.
    """

    features: int
    mean: float
    cds_mean: float
    spearman: float


def split_half(even: Float64[np.ndarray, " feature"], odd: Float64[np.ndarray, " feature"]) -> Reliability:
    """Reliability of a score from its two halves: 2 r / (1 + r) for a correlation r above 0 between them, else r.

    Example:
        >>> reliability = split_half(np.array([0.1, 0.2, 0.3, np.nan]), np.array([0.2, 0.1, 0.3, 0.5]))
        >>> reliability.features, round(reliability.spearman, 4)    # r is 0.5
        (3, 0.6667)
    """
    both = ~np.isnan(even) & ~np.isnan(odd)
    even, odd = even[both], odd[both]
    return Reliability(len(even), _corrected(spearman(even, odd)), _corrected(_pearson(even, odd)))


def agreement(variant: Float64[np.ndarray, " feature"], cds: Float64[np.ndarray, " feature"]) -> Agreement:
    """How well a variant of a score agrees with the score.

    Example:
        >>> agreement(np.array([0.2, 0.3, 0.5, np.nan]), np.array([0.1, 0.2, 0.3, 0.4])).spearman
        1.0
    """
    both: Bool[np.ndarray, " feature"] = ~np.isnan(variant) & ~np.isnan(cds)
    if not both.any():
        return Agreement(0, math.nan, math.nan, math.nan)
    ours, theirs = variant[both], cds[both]
    return Agreement(len(ours), float(ours.mean()), float(theirs.mean()), spearman(ours, theirs))


def spearman(first: Float64[np.ndarray, " value"], second: Float64[np.ndarray, " value"]) -> float:
    """Spearman's rank correlation, ties by mean rank; NaN with fewer than three values or where either is constant.

    Example:
        >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
        0.5
    """
    if len(first) < 3:
        return math.nan
    return _pearson(rankdata(first), rankdata(second))


def _pearson(first: Float64[np.ndarray, " value"], second: Float64[np.ndarray, " value"]) -> float:
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.clip(np.corrcoef(first, second)[0, 1], -1.0, 1.0))


def _corrected(r: float) -> float:
    # Halves of one score cannot truly disagree, and the formula runs off to minus infinity towards r = -1.
    return 2.0 * r / (1.0 + r) if r > 0 else r


@dataclass(frozen=True)
class ClassAgreement:
    """How far two judgements of the same features give the same classes.

    Attributes:
        features: how many features both judgements give a class.
        agreement: share of them with the same class.
        kappa: Cohen's, agreement beyond what the two sets of shares give by chance; NaN where chance gives all of it.
        ac1: Gwet's (2008), whose chance does not grow as one class comes to dominate; NaN with fewer than two classes.
        positive: of each class, the features that both give it over the mean number that either does; NaN where neither
            gives it.
    """

    features: int
    agreement: float
    kappa: float
    ac1: float
    positive: dict[str, float]


def class_agreement(
    first: Sequence[str | None], second: Sequence[str | None], classes: Sequence[str]
) -> ClassAgreement:
    """Compare two judgements, feature by feature.

    Args:
        first: the class of each feature by one judgement; a feature whose class is not in ``classes`` is left out.
        second: by the other.
        classes: the classes that count.

    Example:
        >>> by_chance = class_agreement(["a", "a", "b", "b"], ["a", "b", "a", "b"], ["a", "b"])
        >>> by_chance.agreement, by_chance.kappa, by_chance.positive
        (0.5, 0.0, {'a': 0.5, 'b': 0.5})
    """
    numbers = {name: number for number, name in enumerate(classes)}
    table = np.zeros((len(classes), len(classes)))
    for one, other in zip(first, second, strict=True):
        if one in numbers and other in numbers:
            table[numbers[one], numbers[other]] += 1
    total = table.sum()
    if not total:
        return ClassAgreement(0, math.nan, math.nan, math.nan, dict.fromkeys(classes, math.nan))
    table /= total
    rows, columns = table.sum(1), table.sum(0)
    agreement, chance = float(np.trace(table)), float(rows @ columns)
    mean = (rows + columns) / 2
    used = int((mean > 0).sum())
    gwet = float((mean * (1 - mean)).sum() / (used - 1)) if used > 1 else math.nan
    return ClassAgreement(
        int(total),
        agreement,
        (agreement - chance) / (1 - chance) if chance < 1 else math.nan,
        (agreement - gwet) / (1 - gwet),
        {name: float(table[n, n] / mean[n]) if mean[n] else math.nan for name, n in numbers.items()},
    )


@dataclass(frozen=True)
class PairedDifference:
    """One score minus another, over the pairs that are valid in both; every array is ``[feature]``.

    Attributes:
        difference: mean over those pairs, as a share of D; NaN with fewer than ``min_pairs``.
        pairs: number of those pairs.
    """

    difference: Float64[np.ndarray, " feature"]
    pairs: UInt32[np.ndarray, " feature"]


def paired_difference(
    one: PairScores,
    other: PairScores,
    feature: UInt32[np.ndarray, " pair"],
    n_features: int,
    min_pairs: int,
    empty_as: EmptyPairs = "leave-out",
) -> PairedDifference:
    """Mean distance of ``one`` minus that of ``other``, image by image.

    The difference of two means over different images would also be a difference between the images.

    Args:
        one: scores of the pairs.
        other: other scores of the same pairs.
        feature: the feature of each pair, below ``n_features``.
        n_features: features of the dictionary.
        min_pairs: a difference needs this many pairs.
        empty_as: as in `infoscope.scope.score.score_features`.

    Example:
        >>> one, other = (
        ...     PairScores(emd=np.array(emd), mass_first=np.ones(2), mass_second=np.array([1.0, mass]),
        ...         retention=np.ones(2), effective_area=np.ones(2), cosine_distance=np.ones(2), mass_ratio=np.ones(2))
        ...     for emd, mass in (([0.5, 0.25], 1.0), ([0.125, np.nan], 0.0)))
        >>> paired = paired_difference(one, other, np.zeros(2, np.uint32), n_features=1, min_pairs=1)
        >>> paired.difference.tolist(), paired.pairs.tolist()
        ([0.375], [1])
    """
    difference = one.distances(empty_as) - other.distances(empty_as)
    valid = ~np.isnan(difference)
    pairs = np.bincount(feature[valid], minlength=n_features).astype(np.uint32)
    return PairedDifference(feature_mean(difference, valid, feature, n_features, min_pairs), pairs)
