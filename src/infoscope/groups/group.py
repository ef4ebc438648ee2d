"""A feature group, and the groups that every run has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import UInt32

from infoscope.scope.classes import CLASSES
from infoscope.storage.run import Run


@dataclass(frozen=True)
class FeatureGroup:
    """Some features.

    Attributes:
        name: ``high-CDS``, ``low-CDS``, ``unscored``, a scope class, or the rule that chose them.
        kind: what divides the features: ``partition``, ``class``, ``rule``, ``list``, or ``random``.
        features: which ones, ascending.
    """

    name: str
    kind: str
    features: UInt32[np.ndarray, " feature"]


def feature_groups(run: Run) -> list[FeatureGroup]:
    """The groups of a run: by its partition, and by scope class."""
    scope = run.scope
    threshold = run.partition.get("threshold")
    cds = pl.col("cds")
    scored = cds.is_not_null() if threshold is not None else pl.lit(False)
    gamma = float("nan") if threshold is None else float(threshold)
    groups = [
        FeatureGroup(name, "partition", scope.filter(which)["feature"].to_numpy())
        for name, which in (("high-CDS", scored & (cds > gamma)), ("low-CDS", scored & (cds <= gamma)))
    ]
    groups.append(FeatureGroup("unscored", "partition", scope.filter(~scored)["feature"].to_numpy()))
    by_class = [(name, scope.filter(pl.col("scope_class") == name)["feature"].to_numpy()) for name in CLASSES]
    return groups + [FeatureGroup(name, "class", features) for name, features in by_class if len(features)]
