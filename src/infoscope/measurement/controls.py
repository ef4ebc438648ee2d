"""The controls of a run as a whole: shares of classes, reliability, CDS against k and against a floor, trust."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from infoscope.scope.classes import CLASSES, ClassRules
from infoscope.scope.controls import FLOORS, prefix_sizes
from infoscope.scope.reliability import Agreement, Reliability, agreement, split_half
from infoscope.scope.trust import TrustRules

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class RunControls:
    """What the columns of a run say together; derived from ``scope.parquet`` alone.

    Attributes:
        classes: number of features of each class.
        calibrated: quantiles of ``cds_calibrated`` by share; empty where no feature has one.
        trust: quantiles of ``trust`` over the features with a class; empty where none has.
        reliability: split-half reliability of CDS over features.
        disagreeing: features whose score is another over the pairs that keep their peak.
        by_k: CDS over the first images alone against CDS, by their number.
        by_floor: CDS with weak codes taken for 0 against CDS, by the floor, over the features it was computed for.
    """

    classes: dict[str, int]
    calibrated: dict[float, float]
    trust: dict[float, float]
    reliability: Reliability
    disagreeing: int
    by_k: dict[int, Agreement]
    by_floor: dict[float, Agreement]
    class_rules: ClassRules = field(default_factory=ClassRules)
    trust_rules: TrustRules = field(default_factory=TrustRules)

    def to_json(self) -> dict[str, Any]:
        """What ``controls.json`` holds; a number that is not defined is None."""
        document = asdict(self)
        document["by_k"] = [{"k": k} | asdict(found) for k, found in self.by_k.items()]
        document["by_floor"] = [{"floor": floor} | asdict(found) for floor, found in self.by_floor.items()]
        defined: dict[str, Any] = _defined(document)
        return defined


def run_controls(table: pl.DataFrame, top_images: int) -> RunControls:
    """Sum up the controls of a run.

    Args:
        table: ``scope.parquet``.
        top_images: k of the measurement.

    Example:
        >>> from infoscope.runtime.schema import SCOPE
        >>> types = {name: column.dtype for name, column in SCOPE.items()}
        >>> table = pl.DataFrame({name: [None, None] for name in SCOPE}, types)
        >>> run_controls(table.with_columns(scope_class=pl.Series(["local", "global"])), top_images=16).classes
        {'local': 1, 'diffuse': 0, 'position-bound': 0, 'global': 1, 'undefined': 0}
    """
    cds = _numbers(table["cds"])
    counts = dict(table["scope_class"].value_counts().iter_rows())
    by_k, by_floor = _lists(table["cds_by_k"], prefix_sizes(top_images)), _lists(table["cds_by_floor"], FLOORS)
    return RunControls(
        classes={name: counts.get(name, 0) for name in CLASSES},
        calibrated=_quantiles(table["cds_calibrated"]),
        trust=_quantiles(table.filter(pl.col("scope_class") != "undefined")["trust"]),
        reliability=split_half(_numbers(table["cds_even"]), _numbers(table["cds_odd"])),
        disagreeing=int(table["retained_disagrees"].sum() or 0),
        by_k={size: agreement(values, cds) for size, values in by_k.items()},
        by_floor={floor: agreement(values, cds) for floor, values in by_floor.items()},
    )


def _numbers(column: pl.Series) -> np.ndarray:
    """A column with NaN for null."""
    return column.cast(pl.Float64).fill_null(math.nan).to_numpy()


def _lists(column: pl.Series, names: Any) -> dict[Any, np.ndarray]:
    """The places of a list column as columns of their own."""
    return {name: _numbers(column.list.get(place, null_on_oob=True)) for place, name in enumerate(names)}


def _quantiles(column: pl.Series) -> dict[float, float]:
    values = column.drop_nulls().to_numpy()
    return {share: float(np.quantile(values, share)) for share in QUANTILES} if len(values) else {}


def _defined(value: Any) -> Any:
    """The same with None for NaN."""
    if isinstance(value, dict):
        return {str(key): _defined(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_defined(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
