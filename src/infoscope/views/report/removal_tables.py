"""What removing feature groups did, as tables: the run's probes, and its zero-shot predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from infoscope.analyses.probes import result as probe
from infoscope.analyses.removal.columns import CONTROL, ENERGY, summarise_ladder
from infoscope.analyses.removal.ladder import NoFairControl
from infoscope.analyses.zeroshot import result as zeroshot
from infoscope.errors import InfoscopeError
from infoscope.measurement.shared_images import SharedRecord, shared_lines
from infoscope.runtime.columns import declare, read_table
from infoscope.runtime.hub import short_name
from infoscope.runtime.run import Run
from infoscope.runtime.seal import read_record
from infoscope.runtime.typed import Count


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
        ladder: one a site, group and step, where groups were compared on a ladder of removed energy.
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
    ladder: list[dict[str, Any]]
    notes: list[str]


# What a table needs of its record and of its columns; a folder of a later version may have more.


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
class _ProbeRecord:
    task: str
    metric: str
    higher_is_better: bool
    recipe: _Recipe
    data: _Data
    baselines: list[_Baseline]
    notes: list[str]
    shared_images: SharedRecord | None = None
    no_fair_control: list[NoFairControl] = field(default_factory=list)


_PROBE_COLUMNS = declare(
    {
        name: probe.VARIANTS[name]
        for name in (
            *("site", "name", "draw", "metric", "features", "mass", "score"),
            *("difference", "difference_lower", "difference_upper"),
            *ENERGY,
            *CONTROL,
        )
    }
)


def probe_tables(run: Run) -> tuple[list[ProbeTable], list[str]]:
    """The tables of a run's finished probes, by folder, and a line on each folder that cannot be read.

    An unfinished probe has no ``probe.json`` and is skipped.
    """
    tables, unreadable = [], []
    for file in sorted(run.path.glob(f"probes/*/{probe.PROBE_FILE}")):
        try:
            tables.append(_probe_table(file))
        except InfoscopeError as error:
            unreadable.append(f"{file.parent.name} cannot be read ({error}); probe again")
    return tables, unreadable


def _sentences(shared: SharedRecord | None) -> list[str]:
    return [f"{line[:1].upper()}{line[1:]}." for line in shared_lines(shared)]


def _probe_table(file: Path) -> ProbeTable:
    variants_file = file.with_name("variants.parquet")
    record = read_record(_ProbeRecord, file, "a probe", probe.AGAIN, [variants_file.name])
    variants = read_table(variants_file, _PROBE_COLUMNS, cast=True).filter(pl.col("metric") == record.metric)
    recipe = (record.recipe.name, record.recipe.version)
    return ProbeTable(
        folder=file.parent.name,
        task=record.task,
        metric=record.metric,
        higher_is_better=record.higher_is_better,
        recipe=" ".join(str(part) for part in recipe if part is not None),
        data=[f"{name} {of.images:,} images ({short_name(of.source)})" for name, of in record.data.splits.items()],
        baselines=[(each.name, each.test[record.metric]) for each in record.baselines if record.metric in each.test],
        rows=probe.over_draws(variants.filter(pl.col("side").is_null())).to_dicts(),
        ladder=_ladder(variants, record.no_fair_control),
        notes=[*_sentences(record.shared_images), *record.notes],
    )


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
        metric: the figure that groups are compared by on a ladder.
        ladder: one a group and step, where groups were compared on a ladder of removed energy.
        notes: what a reader must know.
    """

    labelled: bool
    classes: int
    images: int
    source: str
    rows: list[dict[str, Any]]
    metric: str
    ladder: list[dict[str, Any]]
    notes: list[str]


@dataclass(frozen=True)
class _Classes:
    names: list[str]


@dataclass(frozen=True)
class _Images:
    source: str


@dataclass(frozen=True)
class _ZeroshotRecord:
    labelled: bool
    classes: _Classes
    read: Count
    images: _Images
    notes: list[str]
    shared_images: SharedRecord | None = None
    no_fair_control: list[NoFairControl] = field(default_factory=list)


def zeroshot_table(run: Run) -> tuple[ZeroshotTable | None, list[str]]:
    """The table of a run's finished evaluation, and a line if there is one that cannot be read."""
    file = run.path / "zeroshot" / zeroshot.ZEROSHOT_FILE
    if not file.is_file():
        return None, []
    try:
        return _zeroshot_table(file), []
    except InfoscopeError as error:
        return None, [f"zeroshot cannot be read ({error}); evaluate again"]


def _zeroshot_table(file: Path) -> ZeroshotTable:
    variants_file = file.with_name(zeroshot.VARIANTS_FILE)
    record = read_record(_ZeroshotRecord, file, "a zero-shot evaluation", zeroshot.AGAIN, [variants_file.name])
    one = pl.len() == 1
    ends = [f"{name}_ci_{end}" for name in ("accuracy_change", "confidence_change") for end in ("lower", "upper")]
    variants = read_table(variants_file, zeroshot.VARIANTS)
    metric = "accuracy" if record.labelled else "flips"
    rows = (
        variants.filter(pl.col("side").is_null())
        .group_by("name", maintain_order=True)
        .agg(
            pl.len().alias("draws"),
            pl.col("features", "mass", "energy_share", "flips").mean(),
            pl.col("accuracy", "accuracy_change", "confidence", "confidence_change").mean(),
            pl.col("accuracy", "confidence").std().name.suffix("_spread"),
            # The interval is of one variant; over several draws the spread says how far they vary.
            *(pl.when(one).then(pl.col(name).first()).alias(name) for name in ends),
        )
    )
    return ZeroshotTable(
        labelled=record.labelled,
        classes=len(record.classes.names),
        images=record.read,
        source=short_name(record.images.source),
        rows=rows.to_dicts(),
        metric=metric,
        ladder=_ladder(zeroshot.by_figure(variants).filter(pl.col("metric") == metric), record.no_fair_control),
        notes=[*_sentences(record.shared_images), *record.notes],
    )


def _ladder(variants: pl.DataFrame, unfair: list[NoFairControl]) -> list[dict[str, Any]]:
    """The summary of the ladders of one score."""
    return summarise_ladder(variants, unfair).to_dicts()
