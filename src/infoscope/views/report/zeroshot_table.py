"""What the edited model predicts without a head, read from the run's ``zeroshot/``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from infoscope.analyses.zeroshot.result import AGAIN, VARIANTS, VARIANTS_FILE, ZEROSHOT_FILE
from infoscope.errors import InfoscopeError
from infoscope.runtime.hub import short_name
from infoscope.runtime.run import Run
from infoscope.runtime.schema import read_table
from infoscope.runtime.seal import read_whole
from infoscope.runtime.typed import Count, from_json

_MEANS = ("features", "mass", "accuracy", "accuracy_change", "flips", "confidence", "confidence_change")


@dataclass(frozen=True)
class ZeroshotTable:
    """A zero-shot evaluation's figures.

    Attributes:
        labelled: whether the images' own classes are known, so that there is an accuracy.
        classes: how many there are to choose from.
        images: how many were read.
        source: the images' source.
        rows: one a variant: means over the draws of a random control, with ``draws``, and ``accuracy_spread`` and
            ``confidence_spread``, standard deviations over them.
        notes: what a reader must know.
    """

    labelled: bool
    classes: int
    images: int
    source: str
    rows: list[dict[str, Any]]
    notes: list[str]


@dataclass(frozen=True)
class _Classes:
    names: list[str]


@dataclass(frozen=True)
class _Images:
    source: str


@dataclass(frozen=True)
class _Record:
    """What the table needs of ``zeroshot.json``; a later version may have more."""

    labelled: bool
    classes: _Classes
    read: Count
    images: _Images
    notes: list[str]


def zeroshot_table(run: Run) -> tuple[ZeroshotTable | None, list[str]]:
    """The table of a run's finished evaluation, and a line if there is one that cannot be read."""
    folder = run.path / "zeroshot"
    if not (folder / ZEROSHOT_FILE).is_file():
        return None, []
    try:
        return _table(folder), []
    except (InfoscopeError, ValueError) as error:
        return None, [f"zeroshot cannot be read ({error}); evaluate again"]


def _table(folder: Path) -> ZeroshotTable:
    value = read_whole(folder / ZEROSHOT_FILE, AGAIN, [VARIANTS_FILE])
    record: _Record = from_json(_Record, value, other_entries=True)
    one = pl.len() == 1
    ends = [f"{name}_ci_{end}" for name in ("accuracy_change", "confidence_change") for end in ("lower", "upper")]
    rows = (
        read_table(folder / VARIANTS_FILE, VARIANTS)
        .group_by("name", maintain_order=True)
        .agg(
            pl.len().alias("draws"),
            pl.col(_MEANS).mean(),
            pl.col("accuracy", "confidence").std().name.suffix("_spread"),
            # Of one variant; over draws it is the spread that tells.
            *(pl.when(one).then(pl.col(name).first()).alias(name) for name in ends),
        )
    )
    return ZeroshotTable(
        labelled=record.labelled,
        classes=len(record.classes.names),
        images=record.read,
        source=short_name(record.images.source),
        rows=rows.to_dicts(),
        notes=record.notes,
    )
