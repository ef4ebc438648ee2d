"""The explorer's columns: every number that a run has of each feature, with its unit and what it means."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from infoscope.analyses.outliers.result import FEATURES
from infoscope.runtime.run import Run
from infoscope.runtime.schema import CROSS_CHECKS, SCOPE, Column, read_table
from infoscope.scope.classes import CLASSES
from infoscope.views.report.charts import LABELS
from infoscope.views.report.payload import rounded

LEFT_OUT = ("feature", "cds_by_k", "cds_by_floor", "scope_class", "class_evidence", "trust_reasons")
COUNTS = {"pairs", "position_pairs", "images_active"}


@dataclass(frozen=True)
class SiteColumn:
    """A column of the explorer.

    Attributes:
        name: of its file, and in links.
        label: for people.
        unit: of its values.
        meaning: in a sentence.
        values: a row a feature.
    """

    name: str
    label: str
    unit: str
    meaning: str
    values: pl.Series

    def to_json(self) -> dict[str, object]:
        """What the page knows of it before it is loaded: also its range, and how many features have a value."""
        known = self.values.cast(pl.Float64).drop_nulls().drop_nans()
        return {
            "name": self.name,
            "label": self.label,
            "unit": self.unit,
            "meaning": self.meaning,
            "known": len(known),
            "low": None if known.is_empty() else rounded(float(known.min())),  # type: ignore[arg-type]
            "high": None if known.is_empty() else rounded(float(known.max())),  # type: ignore[arg-type]
            "whole": self.name in COUNTS or self.values.dtype.is_integer(),
        }


def site_columns(run: Run) -> list[SiteColumn]:
    """The columns of ``scope.parquet``, of the cross-checks and of the outlier tokens, as far as the run has them."""
    found = [_column(name, column, run.scope[name]) for name, column in SCOPE.items() if name not in LEFT_OUT]
    features = run.scope.select("feature")
    if run.cross_checks is not None:
        for (check,), rows in run.cross_checks.group_by(["check"], maintain_order=True):
            values = features.join(rows.select("feature", "cds"), on="feature", how="left", maintain_order="left")[
                "cds"
            ]
            found.append(
                SiteColumn(
                    f"check-{check}", f"CDS, {check}", _unit(CROSS_CHECKS["cds"]), f"CDS, made from {check}", values
                )
            )
    file = run.path / "outliers" / "features.parquet"
    if file.is_file():
        rows = features.join(read_table(file, FEATURES), on="feature", how="left", maintain_order="left")
        found += [_column(name, FEATURES[name], rows[name]) for name in ("outlier_activation", "normal_activation")]
    return found


def class_codes(run: Run) -> pl.Series:
    """Each feature's class as its place in `CLASSES`."""
    places = {name: place for place, name in enumerate(CLASSES)}
    return run.scope["scope_class"].fill_null("undefined").replace_strict(places, return_dtype=pl.UInt8)


def strongest_images(run: Run) -> pl.Series:
    """The number of each feature's strongest image; null for a feature that never fires."""
    first = run.top_images.filter(pl.col("rank") == 0).select("feature", "image")
    return run.scope.select("feature").join(first, on="feature", how="left", maintain_order="left")["image"]


def _column(name: str, column: Column, values: pl.Series) -> SiteColumn:
    return SiteColumn(name, LABELS.get(name, name.replace("_", " ")), _unit(column), column.meaning, values)


def _unit(column: Column) -> str:
    return (SCOPE["cds"].unit if column.unit == "as cds" else column.unit).replace(
        "share of the grid diagonal, 0 to 1", "share of D, 0 to 1"
    )
