"""The record of a zero-shot test, which ``zeroshot.json`` holds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from infoscope.analyses.removal.columns import CONTROL, ENERGY
from infoscope.analyses.removal.ladder import NoFairControl
from infoscope.analyses.removal.variants import Variant
from infoscope.measurement.shared_images import SharedRecord
from infoscope.runtime.manifest import DictionaryRecord, ImagesRecord, ModelRecord

FORMAT_VERSION = 1


@dataclass(frozen=True)
class HeadRecord:
    """How images were turned into embeddings and logits.

    Attributes:
        pooled: which vector stands for an image.
        projected: whether it passes through CLIP's projection.
        width: length of an embedding.
        scale: cosines times this are logits.
        bias: added to the logits; None where nothing states one.
        scale_source: ``option``, ``checkpoint``, ``class embeddings`` or ``default``.
        probability: ``softmax`` or ``sigmoid``.
    """

    pooled: str
    projected: bool
    width: int
    scale: float
    bias: float | None
    scale_source: str
    probability: str


@dataclass(frozen=True)
class ClassesRecord:
    """The classes that could be predicted, in order, and where their embeddings come from."""

    names: list[str]
    folders: list[str] | None
    source: str
    embeddings: dict[str, Any]


@dataclass(frozen=True)
class VariantRecord:
    """A variant, with the number of features that are removed and a hash over their numbers."""

    name: str
    draw: int | None
    group: str | None
    kind: str | None
    features: int
    features_sha256: str | None
    method: str
    replacement: str


@dataclass(frozen=True)
class ControlRecord:
    """Random groups that match a group: number of draws, and mean and standard deviation of each figure over them."""

    name: str
    draws: int
    mean: dict[str, float | None]
    deviation: dict[str, float | None]


@dataclass(frozen=True)
class ZeroshotRecord:
    """All of ``zeroshot.json``. The class of each entry documents it; timings are in seconds, by stage.

    ``read`` is the number of images that were read, and ``labelled`` says whether their classes are known.
    ``shared_images`` are those that were measured or trained on before; None in results from before they were compared.
    ``no_fair_control`` lists the steps of a ladder that a group is not compared at.
    """

    format_version: int
    command: str
    options: dict[str, Any]
    model: ModelRecord
    dictionary: DictionaryRecord
    token_set: str
    images: ImagesRecord
    read: int
    labelled: bool
    classes: ClassesRecord
    head: HeadRecord
    variants: list[VariantRecord]
    controls: list[ControlRecord]
    software: dict[str, str]
    timings: dict[str, float]
    notes: list[str]
    shared_images: SharedRecord | None = None
    no_fair_control: list[NoFairControl] = field(default_factory=list)


def variant_record(variant: Variant) -> VariantRecord:
    """The record of a variant."""
    group = variant.group
    return VariantRecord(
        name=variant.name,
        draw=variant.draw,
        group=None if group is None else group.name,
        kind=None if group is None else group.kind,
        features=0 if group is None else len(group.features),
        features_sha256=None
        if group is None
        else hashlib.sha256(np.ascontiguousarray(group.features, "<u4").tobytes()).hexdigest(),
        method=variant.method,
        replacement=variant.replacement,
    )


def control_records(variants: pl.DataFrame) -> list[ControlRecord]:
    """The records of the random groups, one for all draws of the same name.

    Args:
        variants: the table of variants.
    """
    figures = figures_of(variants)
    drawn: dict[str, list[dict[str, Any]]] = {}
    for row in variants.filter(pl.col("draw").is_not_null()).iter_rows(named=True):
        drawn.setdefault(row["name"], []).append(row)
    records = []
    for name, rows in drawn.items():
        known = [figure for figure in figures if rows[0][figure] is not None]
        values = {figure: [float(row[figure]) for row in rows] for figure in known}
        records.append(
            ControlRecord(
                name,
                len(rows),
                {figure: float(np.mean(draws)) for figure, draws in values.items()},
                {figure: float(np.std(draws, ddof=1)) if len(draws) > 1 else None for figure, draws in values.items()},
            )
        )
    return records


def figures_of(variants: pl.DataFrame) -> list[str]:
    """The figures of a table of variants: the columns with an interval, and those that cannot have one."""
    return [
        name
        for name, dtype in variants.schema.items()
        if dtype == pl.Float64
        and name not in ("mass", *ENERGY, *CONTROL)
        and not name.endswith(("_ci_lower", "_ci_upper"))
    ]
