"""What probes on the edited model found, read from the folders in the run's ``probes/``: one table a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from infoscope.errors import InfoscopeError
from infoscope.probes.result import FILE, over_draws
from infoscope.report.template import short_name
from infoscope.storage.atomic import read_json
from infoscope.storage.run import Run

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


def probe_tables(run: Run) -> tuple[list[ProbeTable], list[str]]:
    """The tables of a run's finished probes, by folder, and a line on each folder that cannot be read.

    An unfinished probe has no ``probe.json`` and is passed over.
    """
    tables, unreadable = [], []
    for file in sorted(run.path.glob(f"probes/*/{FILE}")):
        try:
            tables.append(_table(file.parent.name, read_json(file), _variants(file.with_name("variants.parquet"))))
        except (InfoscopeError, KeyError, TypeError, AttributeError) as error:
            unreadable.append(f"{file.parent.name} cannot be read ({error}); probe again")
    return tables, unreadable


def _variants(path: Any) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InfoscopeError(f"variants.parquet: {str(error).splitlines()[0]}; probe again") from error
    missing = [name for name in NEEDED if name not in frame.columns]
    if missing:
        raise InfoscopeError(f"variants.parquet lacks {', '.join(missing)}; probe again")
    return frame


def _table(folder: str, record: dict[str, Any], variants: pl.DataFrame) -> ProbeTable:
    rows = over_draws(variants.filter(pl.col("metric") == record["metric"]))
    recipe = record["recipe"]
    return ProbeTable(
        folder=folder,
        task=record["task"],
        metric=record["metric"],
        higher_is_better=record["higher_is_better"],
        recipe=" ".join(str(recipe[key]) for key in ("name", "version") if key in recipe),
        data=[
            f"{split} {one['images']:,} images ({short_name(str(one['source']))})"
            for split, one in record["data"]["splits"].items()
        ],
        baselines=[
            (one["name"], one["test"][record["metric"]])
            for one in record["baselines"]
            if record["metric"] in one["test"]
        ],
        rows=rows.to_dicts(),
        notes=list(record["notes"]),
    )
