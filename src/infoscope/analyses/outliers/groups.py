"""How strongly each feature group is active on outlier tokens and on normal ones (method, section 6)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64
from scipy.stats import mannwhitneyu

from infoscope.analyses.outliers.passes import FeatureSums
from infoscope.analyses.outliers.record import GroupActivation, Groups, OutlierFeatures, Told
from infoscope.analyses.outliers.result import features_table
from infoscope.analyses.removal.groups import FeatureGroup, feature_groups
from infoscope.runtime.run import Run
from infoscope.scope.reliability import spearman

# Columns of a run's table that may tell the features of outlier tokens from the others.
MEASURES = ("cds", "cds_calibrated", "displacement", "cosine_distance", "jensen_shannon", "effective_area")


def compare_groups(
    run: Run, sums: FeatureSums, outlier: Bool[np.ndarray, "image patch"]
) -> tuple[Groups, pl.DataFrame]:
    """A run's feature groups on both kinds of tokens, and the table of features.

    Args:
        run: the run.
        sums: each feature's codes, summed over either kind of tokens.
        outlier: which tokens of each image are outliers.
    """
    count = int(outlier.sum())
    on_outliers = sums.outlier / count if count else None
    on_normal = sums.normal / (outlier.size - count) if count < outlier.size else None
    correlation, features = (
        (None, 0) if on_outliers is None or on_normal is None else rank_with_cds(run.scope, on_outliers, on_normal)
    )
    own = None if not count else tell_outlier_features(run.scope, sums.outlier, sums.normal)
    groups = Groups(activate_groups(feature_groups(run), on_outliers, on_normal), correlation, features, own)
    return groups, features_table(on_outliers, on_normal, len(sums.outlier))


def activate_groups(
    groups: list[FeatureGroup],
    outlier: Float64[np.ndarray, " feature"] | None,
    normal: Float64[np.ndarray, " feature"] | None,
) -> list[GroupActivation]:
    """Each group's summed code, mean over tokens.

    Args:
        groups: the groups.
        outlier: mean code of each feature over the outlier tokens; None without outlier tokens.
        normal: mean code over the normal tokens; None without normal tokens.

    Example:
        >>> groups = [FeatureGroup("high-CDS", "partition", np.uint32([1, 2]))]
        >>> (activation,) = activate_groups(groups, np.array([0.0, 3.0, 1.0]), np.array([2.0, 0.5, 0.0]))
        >>> activation.outlier, activation.normal, activation.outlier_share, activation.normal_share
        (4.0, 0.5, 1.0, 0.2)
    """

    def summed(mean: np.ndarray | None, features: np.ndarray) -> tuple[float | None, float | None]:
        if mean is None:
            return None, None
        of_group, of_all = float(mean[features].sum()), float(mean.sum())
        return of_group, of_group / of_all if of_all > 0 else None

    activations = []
    for group in groups:
        (high, high_share), (low, low_share) = summed(outlier, group.features), summed(normal, group.features)
        activations.append(
            GroupActivation(group.name, group.kind, len(group.features), high, low, high_share, low_share)
        )
    return activations


def tell_outlier_features(
    scope: pl.DataFrame, outlier: Float64[np.ndarray, " feature"], normal: Float64[np.ndarray, " feature"]
) -> OutlierFeatures:
    """Which features have more than half of their activation on outlier tokens, and how well their scores tell it.

    Args:
        scope: the run's table, a row a feature.
        outlier: each feature's codes, summed over the outlier tokens.
        normal: the same over the normal tokens.

    Example:
        >>> names = ["local", "mixed", "undefined"]
        >>> scope = pl.DataFrame({"feature": [0, 1, 2], "cds": [0.1, 0.2, None], "scope_class": names})
        >>> found = tell_outlier_features(scope, np.array([0.0, 3.0, 0.0]), np.array([1.0, 1.0, 0.0]))
        >>> found.features, found.classes, found.told[0].measure, found.told[0].auc
        ([1], {'mixed': 1}, 'cds', 1.0)
    """
    own = outlier > normal
    names = scope.filter(pl.Series(own))["scope_class"].to_list()
    told = []
    for measure in (name for name in MEASURES if name in scope.columns):
        values = scope[measure].to_numpy().astype(np.float64)
        theirs, others = (values[mask & ~np.isnan(values)] for mask in (own, ~own & (normal > 0)))
        both = len(theirs) and len(others)
        auc = float(mannwhitneyu(theirs, others).statistic) / (len(theirs) * len(others)) if both else None
        medians = [float(np.median(part)) if len(part) else None for part in (theirs, others)]
        told.append(Told(measure, auc, len(theirs), *medians))
    return OutlierFeatures(np.flatnonzero(own).tolist(), dict(Counter(names).most_common()), told)


def rank_with_cds(
    scope: pl.DataFrame, outlier: Float64[np.ndarray, " feature"], normal: Float64[np.ndarray, " feature"]
) -> tuple[float | None, int]:
    """Spearman's correlation, over the scored features, of CDS with a feature's preference for outlier tokens.

    The preference is the mean code on outlier tokens as a share of its sum with the mean code on normal tokens, so that
    neither a threshold on CDS nor the size of codes plays a part.

    Returns:
        The correlation, None where it is not defined, and the number of features it is over.

    Example:
        >>> scope = pl.DataFrame({"feature": [0, 1, 2, 3], "cds": [0.1, 0.2, 0.3, None]})
        >>> rank_with_cds(scope, np.array([0.0, 1.0, 2.0, 5.0]), np.array([1.0, 1.0, 1.0, 0.0]))
        (1.0, 3)
    """
    cds = scope["cds"].to_numpy().astype(np.float64)
    total = outlier + normal
    used = ~np.isnan(cds) & (total > 0)
    correlation = spearman(cds[used], outlier[used] / total[used])
    return None if np.isnan(correlation) else correlation, int(used.sum())
