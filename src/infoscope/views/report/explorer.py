"""The explorer's columns: every quantity that a run has of each feature, with its unit and what it means."""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from infoscope.analyses.outliers.result import FEATURES
from infoscope.measurement.summary import trust_label
from infoscope.runtime.columns import Column, Panel, read_table
from infoscope.runtime.run import Run
from infoscope.runtime.schema import CROSS_CHECKS, SCOPE
from infoscope.scope.classes import CLASSES
from infoscope.views.report.payload import rounded

QUANTITIES = {name: column for name, column in SCOPE.items() if column.is_quantity}


@dataclass(frozen=True)
class ExplorerColumn:
    """A column of the explorer.

    Attributes:
        name: of its file, and in links.
        label: for people.
        unit: of its values.
        meaning: in a sentence.
        panel: where on a feature's page it stands, if anywhere.
        values: one a feature.
    """

    name: str
    label: str
    unit: str
    meaning: str
    panel: Panel | None
    values: pl.Series

    @classmethod
    def of(cls, name: str, column: Column, values: pl.Series) -> ExplorerColumn:
        """A declared column with a run's values."""
        return cls(name, column.label, column.shown_unit, column.meaning, column.panel, values)

    def to_json(self) -> dict[str, object]:
        """What the page knows of it before it is loaded: also its range, and how many features have a value."""
        known = self.values.cast(pl.Float64).drop_nulls().drop_nans()
        return {
            "name": self.name,
            "label": self.label,
            "unit": self.unit,
            "meaning": self.meaning,
            "panel": self.panel,
            "known": len(known),
            "low": None if known.is_empty() else rounded(float(known.min())),  # type: ignore[arg-type]
            "high": None if known.is_empty() else rounded(float(known.max())),  # type: ignore[arg-type]
            "whole": self.values.dtype.is_integer(),
        }


def explorer_columns(run: Run) -> list[ExplorerColumn]:
    """The columns of ``scope.parquet``, of the cross-checks and of the outlier tokens, as far as the run has them."""
    columns = [ExplorerColumn.of(name, column, run.scope[name]) for name, column in QUANTITIES.items()]
    called = trust_label(run.manifest.rule_version)
    columns = [replace(column, label=called) if column.name == "trust" else column for column in columns]
    if run.cross_checks is not None:
        unit = CROSS_CHECKS["cds"].shown_unit
        for (check,), rows in run.cross_checks.group_by(["check"], maintain_order=True):
            values = _by_feature(run, rows.select("feature", "cds"))["cds"]
            columns.append(
                ExplorerColumn(f"check-{check}", f"CDS, {check}", unit, f"CDS, made from {check}", None, values)
            )
    file = run.path / "outliers" / "features.parquet"
    if file.is_file():
        rows = _by_feature(run, read_table(file, FEATURES))
        columns += [
            ExplorerColumn.of(name, column, rows[name]) for name, column in FEATURES.items() if column.is_quantity
        ]
    return columns


def class_codes(run: Run) -> pl.Series:
    """Each feature's class as its place in `CLASSES`."""
    places = {name: place for place, name in enumerate(CLASSES)}
    return run.scope["scope_class"].fill_null("undefined").replace_strict(places, return_dtype=pl.UInt8)


def strongest_images(run: Run) -> pl.Series:
    """The number of each feature's strongest image; null for a feature that never fires."""
    return _by_feature(run, run.top_images.filter(pl.col("rank") == 0).select("feature", "image"))["image"]


def _by_feature(run: Run, rows: pl.DataFrame) -> pl.DataFrame:
    """A row for each of the run's features, in their order; null in what ``rows`` do not have."""
    return run.scope.select("feature").join(rows, on="feature", how="left", maintain_order="left")
