"""How strongly each feature group is active on outlier tokens and on normal ones (method, section 6)."""

from __future__ import annotations

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64

from infoscope.analyses.outliers.passes import FeatureSums
from infoscope.analyses.outliers.record import GroupActivation, Groups
from infoscope.analyses.outliers.result import features_table
from infoscope.analyses.removal.groups import FeatureGroup, feature_groups
from infoscope.runtime.run import Run
from infoscope.scope.reliability import spearman


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
    groups = Groups(activate_groups(feature_groups(run), on_outliers, on_normal), correlation, features)
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
