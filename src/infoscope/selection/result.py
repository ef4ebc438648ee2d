"""The result of a selection."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from infoscope.probes.record import ProbeRecord
from infoscope.selection.tables import STEPS
from infoscope.storage.atomic import write_json
from infoscope.storage.schema import write_table
from infoscope.storage.seal import write_sealed

FILE = "selection.json"
FEATURES_FILE = "removed.json"


@dataclass(frozen=True)
class Choice:
    """The set that serves a task best.

    Attributes:
        name: what was removed, or ``untouched``.
        end: the end it was taken from; None where removing nothing is best.
        share: which share of the ordered features.
        removed: the features.
        validation: its score where it was chosen.
        test: its score on the test split.
        validation_untouched: the unedited model's score where the choice was made.
        test_untouched: the unedited model's score on the test split.
        difference_lower: lower end of the 95 % interval of the difference on the test split, given the heads; None
            where the metric is no mean over images.
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
        """On the test split, against the unedited model."""
        return self.test - self.test_untouched


@dataclass(frozen=True)
class Selection:
    """The result of `select_features`; columns and units of the table are in `infoscope.selection.tables`.

    Attributes:
        choice: the set that serves the task best on the validation split.
        steps: one row a set that was tried, random ones among them.
        record: with what, on what.
        options: which sets were tried.
    """

    choice: Choice
    steps: pl.DataFrame
    record: ProbeRecord
    options: dict[str, Any]

    def save(self, path: Path | str) -> None:
        """Write a folder: ``steps.parquet``, ``removed.json`` for ``--remove list:``, and last ``selection.json``.

        Raises:
            InfoscopeError: the folder cannot be written.
        """
        path = Path(path)
        write_table(path / "steps.parquet", self.steps, STEPS)
        write_json(path / FEATURES_FILE, self.choice.removed)
        write_sealed(path / FILE, self.to_json(), ["steps.parquet", FEATURES_FILE])

    def to_json(self) -> dict[str, Any]:
        """What ``selection.json`` holds."""
        return {"choice": asdict(self.choice), "selection": self.options, **asdict(self.record)}
