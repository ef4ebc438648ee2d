"""What each feature group gives on outlier and on normal tokens (method, section 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float64

from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.scope.reliability import spearman


@dataclass(frozen=True)
class GroupActivation:
    """A group's codes on outlier and on normal tokens.

    Attributes:
        name: of the group.
        kind: what divides the features: ``partition`` or ``class``.
        features: how many there are.
        outlier: sum of the group's codes on an outlier token, mean over the outlier tokens; None without any.
        normal: the same on the others.
        outlier_share: share of an outlier token's codes that are the group's; None where there are no codes.
        normal_share: the same of a normal token's.
    """

    name: str
    kind: str
    features: int
    outlier: float | None
    normal: float | None
    outlier_share: float | None
    normal_share: float | None


def activate_groups(
    groups: list[FeatureGroup],
    outlier: Float64[np.ndarray, " feature"] | None,
    normal: Float64[np.ndarray, " feature"] | None,
) -> list[GroupActivation]:
    """Each group's mean summed code.

    Args:
        groups: the groups.
        outlier: mean code of each feature over the outlier tokens; None where there are none.
        normal: the same over the normal tokens.

    Example:
        >>> groups = [FeatureGroup("high-CDS", "partition", np.uint32([1, 2]))]
        >>> (found,) = activate_groups(groups, np.array([0.0, 3.0, 1.0]), np.array([2.0, 0.5, 0.0]))
        >>> found.outlier, found.normal, found.outlier_share, found.normal_share
        (4.0, 0.5, 1.0, 0.2)
    """

    def told(mean: np.ndarray | None, features: np.ndarray) -> tuple[float | None, float | None]:
        if mean is None:
            return None, None
        of_group, of_all = float(mean[features].sum()), float(mean.sum())
        return of_group, of_group / of_all if of_all > 0 else None

    found = []
    for group in groups:
        (high, high_share), (low, low_share) = told(outlier, group.features), told(normal, group.features)
        found.append(GroupActivation(group.name, group.kind, len(group.features), high, low, high_share, low_share))
    return found


def rank_with_cds(
    scope: pl.DataFrame, outlier: Float64[np.ndarray, " feature"], normal: Float64[np.ndarray, " feature"]
) -> tuple[float | None, int]:
    """Spearman's correlation, over the scored features, of CDS with a feature's preference for outlier tokens.

    The preference is the mean code on outlier tokens over its sum with that on normal tokens: no threshold on CDS and
    no size of codes is in it.

    Returns:
        The correlation, None where it is not defined, and how many features it is over.

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
