"""The controls of a run as a whole: counts of classes, reliability, CDS against k and against a floor, trust."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from infoscope.runtime.json_values import to_json
from infoscope.scope.classes import CLASSES
from infoscope.scope.threshold_rules import ClassRules
from infoscope.scope.controls import FLOORS, first_sizes
from infoscope.scope.planning import ImagePlan
from infoscope.scope.reliability import Agreement, ClassAgreement, Reliability, agreement, class_agreement, split_half
from infoscope.scope.trust import TrustRules

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Our choice: below it, a feature that one half of its images puts into a class is put there by the other half hardly
# more often than not.
REPEATABLE = 0.6


@dataclass(frozen=True)
class RunControls:
    """The controls of a run over all its features, from ``scope.parquet``, and the plan from ``top_images.parquet``.

    Attributes:
        classes: number of features of each class.
        calibrated: quantiles of ``cds_calibrated``; empty where no feature has one.
        trust: quantiles of ``trust`` over the features with a class; empty where none has one.
        reliability: split-half reliability of CDS over features.
        repeatability: whether classes repeat between the even and the odd ranks of each feature's images; None for runs
            that do not say.
        judged_images: how many images each of the two judgements had at most.
        disagreeing: number of features whose score over the pairs that keep their peak lies outside its interval.
        by_k: agreement of CDS over the first images alone with CDS, by the number of images.
        by_floor: agreement of CDS without weak codes with CDS, by the floor, over the features it was computed for.
        plan: how many images a reliable CDS would take; None where the run has too few ranks or features to say, or its
            top images were not looked at.
        class_rules: the thresholds that the classes rest on.
        trust_rules: the constants that trust rests on.
    """

    classes: dict[str, int]
    calibrated: dict[float, float]
    trust: dict[float, float]
    reliability: Reliability
    repeatability: ClassAgreement | None
    judged_images: int
    disagreeing: int
    by_k: dict[int, Agreement]
    by_floor: dict[float, Agreement]
    plan: ImagePlan | None = None
    class_rules: ClassRules = field(default_factory=ClassRules)
    trust_rules: TrustRules = field(default_factory=TrustRules)

    @property
    def not_repeatable(self) -> set[str]:
        """Classes that either half gives and that the other half gives again too seldom to be a finding."""
        if self.repeatability is None:
            return set()
        return {name for name, share in self.repeatability.positive.items() if share < REPEATABLE}

    def to_json(self) -> dict[str, Any]:
        """What ``controls.json`` holds; a number that is not defined is None."""
        document: dict[str, Any] = to_json(self)
        document["not_repeatable"] = sorted(self.not_repeatable)
        document["by_k"] = [{"k": k} | to_json(agreed) for k, agreed in self.by_k.items()]
        document["by_floor"] = [{"floor": floor} | to_json(agreed) for floor, agreed in self.by_floor.items()]
        return document


def _repeatability(table: pl.DataFrame) -> ClassAgreement | None:
    if table["class_even"].null_count() == table.height:
        return None
    settled = [name for name in CLASSES if name != "undefined"]
    return class_agreement(table["class_even"].to_list(), table["class_odd"].to_list(), settled)


def run_controls(table: pl.DataFrame, options: Mapping[str, Any], plan: ImagePlan | None = None) -> RunControls:
    """Summarise the controls of a run.

    Args:
        table: the table of ``scope.parquet``.
        options: of the measurement, from its manifest.
        plan: from `infoscope.measurement.planning.run_plan`.

    Example:
        >>> from infoscope.runtime.columns import make_table
        >>> from infoscope.runtime.schema import SCOPE
        >>> table = make_table(SCOPE, [{"scope_class": "local"}, {"scope_class": "global"}])
        >>> run_controls(table, {"top_images": 16}).classes
        {'local': 1, 'diffuse': 0, 'position-bound': 0, 'global': 1, 'undefined': 0}
    """
    top_images = int(options["top_images"])
    cds = _numbers(table["cds"])
    counts = dict(table["scope_class"].value_counts().iter_rows())
    by_k, by_floor = _lists(table["cds_by_k"], first_sizes(top_images)), _lists(table["cds_by_floor"], FLOORS)
    return RunControls(
        classes={name: counts.get(name, 0) for name in CLASSES},
        calibrated=_quantiles(table["cds_calibrated"]),
        trust=_quantiles(table.filter(pl.col("scope_class") != "undefined")["trust"]),
        reliability=split_half(_numbers(table["cds_even"]), _numbers(table["cds_odd"])),
        repeatability=_repeatability(table),
        judged_images=(int(options.get("ranks") or top_images) + 1) // 2,
        disagreeing=int(table["retained_disagrees"].sum() or 0),
        by_k={size: agreement(values, cds) for size, values in by_k.items()},
        by_floor={floor: agreement(values, cds) for floor, values in by_floor.items()},
        plan=plan,
    )


def _numbers(column: pl.Series) -> np.ndarray:
    """A column with NaN for null."""
    return column.cast(pl.Float64).fill_null(math.nan).to_numpy()


def _lists(column: pl.Series, names: Any) -> dict[Any, np.ndarray]:
    """The entries of a list column as arrays of their own, by name."""
    return {name: _numbers(column.list.get(entry, null_on_oob=True)) for entry, name in enumerate(names)}


def _quantiles(column: pl.Series) -> dict[float, float]:
    values = column.drop_nulls().to_numpy()
    return {share: float(np.quantile(values, share)) for share in QUANTILES} if len(values) else {}
