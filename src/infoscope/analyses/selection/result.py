"""The result of a selection, and the folder that it is written to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from infoscope.analyses.probes.result import ProbeRecord
from infoscope.analyses.removal.columns import ENERGY
from infoscope.runtime.columns import Column, declare, write_table
from infoscope.runtime.json_values import to_json, write_json
from infoscope.runtime.seal import write_sealed

STEPS = declare(
    {
        "end": Column(pl.String, "", "the end of the column that features were removed from; null for none removed"),
        "share": Column(pl.Float64, "share, 0 to 1", "share of the ordered features that were removed"),
        "match": Column(pl.String, "", "what a random set matches: size or mass; null for the set itself"),
        "draw": Column(pl.UInt32, "index", "draw of the random set, from 1; null for the set itself"),
        "features": Column(pl.UInt32, "count", "features removed"),
        "mass": Column(pl.Float64, "share, 0 to 1", "their activation mass, of that of all"),
        **ENERGY,
        "validation": Column(
            pl.Float64, "of the metric", "the metric where the head's choice and the selection are made"
        ),
        "test": Column(
            pl.Float64, "of the metric", "the metric on the test split, which nothing was chosen by", required=True
        ),
    }
)


SELECTION_FILE = "selection.json"
FEATURES_FILE = "removed.json"


@dataclass(frozen=True)
class Choice:
    """The set of features whose removal serves a task best.

    Attributes:
        name: name of the set, or ``untouched``.
        end: the end of the column that it is from; None where removing nothing is best.
        share: its share of the ordered features.
        removed: the features.
        validation: the score without the set where the choice was made.
        test: the score without the set on the test split.
        validation_untouched: the unedited model's score where the choice was made.
        test_untouched: the unedited model's score on the test split.
        difference_lower: lower end of the 95 % interval of the difference on the test split, given the heads; None
            where removing nothing is best.
        difference_upper: upper end.
    """

    name: str
    end: str | None
    share: float
    removed: list[int]
    validation: float
    test: float
    validation_untouched: float
    test_untouched: float
    difference_lower: float | None
    difference_upper: float | None

    @property
    def difference(self) -> float:
        """The score on the test split minus that of the unedited model."""
        return self.test - self.test_untouched


@dataclass(frozen=True)
class Selection:
    """The result of `select_features`; columns and units of the table are in `infoscope.analyses.selection.result`.

    Attributes:
        choice: the set whose removal serves the task best on the validation split.
        steps: one row for each set that was tried, including random ones.
        record: what the selection was made with and on.
        options: which sets were tried.
    """

    choice: Choice
    steps: pl.DataFrame
    record: ProbeRecord
    options: dict[str, Any]

    def save(self, path: Path | str) -> None:
        """Write a folder: ``steps.parquet``, ``removed.json`` for ``--remove list:``, and ``selection.json`` last.

        Raises:
            InfoscopeError: the folder cannot be written.
        """
        path = Path(path)
        write_table(path / "steps.parquet", self.steps, STEPS)
        write_json(path / FEATURES_FILE, self.choice.removed)
        write_sealed(path / SELECTION_FILE, self.to_json(), ["steps.parquet", FEATURES_FILE])

    def to_json(self) -> dict[str, Any]:
        """What ``selection.json`` holds."""
        return {"choice": to_json(self.choice), "selection": self.options, **to_json(self.record)}
