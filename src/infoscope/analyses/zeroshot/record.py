"""What ``zeroshot.json`` holds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from infoscope.analyses.removal.variants import Variant
from infoscope.runtime.manifest import DictionaryRecord, ImagesRecord, ModelRecord

FORMAT_VERSION = 1

SUMMARISED = (
    "accuracy",
    "entropy",
    "margin",
    "confidence",
    "calibration_error",
    "top5",
    "true_probability",
    "flips",
    "right_to_wrong",
    "wrong_to_right",
    "confidence_rose",
    "true_rose",
    "accuracy_change",
    "margin_change",
    "confidence_change",
    "true_probability_change",
    "entropy_change",
    "calibration_error_change",
)


@dataclass(frozen=True)
class HeadRecord:
    """How an image's embedding and logits were made.

    Attributes:
        pooled: which vector stands for an image.
        projected: whether it goes through CLIP's projection.
        width: length of an embedding.
        scale: cosines times this are logits.
        bias: added to logits; None where nothing states one.
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
    """The classes there were to choose from, in order, and what their embeddings are from."""

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
    """Random groups that match one group: how many draws, and each figure's mean and standard deviation over them."""

    name: str
    draws: int
    mean: dict[str, float | None]
    deviation: dict[str, float | None]


@dataclass(frozen=True)
class ZeroshotRecord:
    """All of ``zeroshot.json``; its parts are documented by their classes. Timings are seconds by stage.

    ``read`` is how many images were read, ``labelled`` whether their classes are known.
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


def variant_record(variant: Variant) -> VariantRecord:
    """A variant as it is recorded."""
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
    """Random groups that were drawn several times, each kind of them once.

    Args:
        variants: the table of variants.
    """
    drawn: dict[str, list[dict[str, Any]]] = {}
    for row in variants.filter(pl.col("draw").is_not_null()).iter_rows(named=True):
        drawn.setdefault(row["name"], []).append(row)
    records = []
    for name, rows in drawn.items():
        known = [figure for figure in SUMMARISED if rows[0][figure] is not None]
        values = {figure: [float(row[figure]) for row in rows] for figure in known}
        records.append(
            ControlRecord(
                name,
                len(rows),
                {figure: float(np.mean(each)) for figure, each in values.items()},
                {figure: float(np.std(each, ddof=1)) if len(each) > 1 else None for figure, each in values.items()},
            )
        )
    return records
