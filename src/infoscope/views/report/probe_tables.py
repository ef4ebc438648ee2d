"""What probes on the edited model found, read from the folders in the run's ``probes/``: one table a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from infoscope.analyses.probes.result import AGAIN, PROBE_FILE, VARIANTS, over_draws
from infoscope.errors import InfoscopeError
from infoscope.runtime.hub import short_name
from infoscope.runtime.run import Run
from infoscope.runtime.schema import read_table
from infoscope.runtime.seal import read_whole
from infoscope.runtime.typed import Count, from_json

VARIANTS_FILE = "variants.parquet"
# What the table shows; a folder of a later version may have more.
NEEDED = ("site", "name", "metric", "features", "mass", "score", "difference", "difference_lower", "difference_upper")


@dataclass(frozen=True)
class ProbeTable:
    """A probe's scores.

    Attributes:
        folder: its name in the run.
        task: classification, segmentation or depth.
        metric: the score that choices were made by.
        higher_is_better: whether a high score is a good one.
        recipe: its name and version.
        data: by split, how many images and of what.
        baselines: scores without a model, by name.
        rows: one a site and variant: mean over the draws of a random control, ``draws`` and ``spread`` with it.
        notes: what a reader must know.
    """

    folder: str
    task: str
    metric: str
    higher_is_better: bool
    recipe: str
    data: list[str]
    baselines: list[tuple[str, float]]
    rows: list[dict[str, Any]]
    notes: list[str]


@dataclass(frozen=True)
class _Recipe:
    name: str | None = None
    version: int | str | None = None


@dataclass(frozen=True)
class _Split:
    images: Count
    source: str


@dataclass(frozen=True)
class _Data:
    splits: dict[str, _Split]


@dataclass(frozen=True)
class _Baseline:
    name: str
    test: dict[str, float]


@dataclass(frozen=True)
class _Record:
    """What the table needs of ``probe.json``; a later version may have more."""

    task: str
    metric: str
    higher_is_better: bool
    recipe: _Recipe
    data: _Data
    baselines: list[_Baseline]
    notes: list[str]


def probe_tables(run: Run) -> tuple[list[ProbeTable], list[str]]:
    """The tables of a run's finished probes, by folder, and a line on each folder that cannot be read.

    An unfinished probe has no ``probe.json`` and is passed over.
    """
    tables, unreadable = [], []
    for file in sorted(run.path.glob(f"probes/*/{PROBE_FILE}")):
        try:
            tables.append(_table(file))
        except (InfoscopeError, ValueError) as error:
            unreadable.append(f"{file.parent.name} cannot be read ({error}); probe again")
    return tables, unreadable


def _table(file: Path) -> ProbeTable:
    record: _Record = from_json(_Record, read_whole(file, AGAIN, [VARIANTS_FILE]), other_entries=True)
    variants = read_table(
        file.with_name(VARIANTS_FILE), MappingProxyType({name: VARIANTS[name] for name in NEEDED}), cast=True
    )
    recipe = (record.recipe.name, record.recipe.version)
    return ProbeTable(
        folder=file.parent.name,
        task=record.task,
        metric=record.metric,
        higher_is_better=record.higher_is_better,
        recipe=" ".join(str(part) for part in recipe if part is not None),
        data=[f"{split} {one.images:,} images ({short_name(one.source)})" for split, one in record.data.splits.items()],
        baselines=[(one.name, one.test[record.metric]) for one in record.baselines if record.metric in one.test],
        rows=over_draws(variants.filter(pl.col("metric") == record.metric)).to_dicts(),
        notes=record.notes,
    )
