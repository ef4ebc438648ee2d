"""What the demo says, in plain lines for somebody who sees the tool for the first time."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from infoscope.analyses.outliers.result import OutlierResult
from infoscope.analyses.removal.groups import ON_OUTLIERS
from infoscope.backbones.backbone import Backbone
from infoscope.demo.bundle import Bundle
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.source import ImageSource
from infoscope.measurement.summary import counts_of, fit_sentence, partition_of, settings_of
from infoscope.runtime.run import Run

# Of the activation. Two groups with more than half of it each have features in common.
MOST = 0.5


def say_inputs(backbone: Backbone, sae: SparseAutoencoder, images: ImageSource, tests: ImageSource) -> Iterator[str]:
    """What is bundled: the model, the SAE, the photographs."""
    millions = sum(weight.numel() for weight in backbone.model.parameters()) / 1e6
    yield (
        f"A vision transformer of CLIP's architecture with {millions:.1f} million weights, made for this demo; an SAE "
        f"with {sae.features:,} features of its block {backbone.block} of 0 to {backbone.blocks - 1}; "
        f"{len(images)} crops of {_subjects(images)} photographs to measure it on, and {len(tests)} crops of "
        f"{_subjects(tests)} others to test on."
    )
    yield "All of it comes with the package. Nothing is downloaded."


def _subjects(images: ImageSource) -> int:
    return len({PurePosixPath(image_id).parent.name for image_id in images.ids})


def say_fit(run: Run) -> str:
    """How well the SAE stands for the model."""
    return fit_sentence(run.manifest.fit)[1]


def say_split(run: Run) -> Iterator[str]:
    """What the scores are like, and the two parts."""
    partition = partition_of(run)
    settings = settings_of(run)
    counts = counts_of(run.scope, partition, settings)
    if partition is None:
        yield f"No feature fires on {settings.min_pairs} photographs, so there is no score."
        return
    yield (
        f"Each photograph is cropped twice, {settings.shift} patches apart. A feature's score (CDS) is how far its map "
        "moves against the picture: 0 when it stays on the same pixels, "
        f"{settings.unrelated:.2f} for a spot that jumps anywhere."
    )
    quarters = [run.scope["cds"].quantile(share) for share in (0.25, 0.5, 0.75)]
    yield (
        f"{counts.scored:,} of {counts.features:,} features fire on enough photographs to be scored. A quarter of them "
        f"have a CDS below {quarters[0]:.3f}, half below {quarters[1]:.3f}, a quarter above {quarters[2]:.3f}."
    )
    yield partition.sentence()
    yield f"{counts.low_cds:,} features are low-CDS, up to the threshold; {counts.high_cds:,} are high-CDS, above it."


def say_outliers(outliers: OutlierResult) -> Iterator[str]:
    """Whether there are outlier tokens, how they move, and which features are theirs."""
    record = outliers.record
    yield record.presence.sentence
    stability = record.stability
    if stability.on_pixels is not None:
        yield (
            f"Of those in the part that both crops show, {stability.on_pixels:.0%} are outliers in the second crop "
            "too; the others are not, though their pixels are the same."
        )
    theirs = None if record.groups is None else record.groups.on_outliers
    if theirs is None or not theirs.features:
        yield "No feature has most of its activation on them."
        return
    told = {row.measure: row for row in theirs.told}.get("cds")
    one = len(theirs.features) == 1
    line = "1 feature has most of its" if one else f"{len(theirs.features):,} features have most of their"
    line += " activation on them"
    if told is not None and told.median is not None and told.others_median is not None:
        line += f": median CDS {told.median:.3f}, where that of the others is {told.others_median:.3f}"
    yield f"{line}."


def say_lost(variants: pl.DataFrame, subjects: int) -> Iterator[str]:
    """What the model still knows without each group, beside random features of as much mass."""
    rows = variants.to_dicts()
    untouched = rows[0]["accuracy"]
    yield (
        f"The model names the subject of a crop among {subjects} by the nearest class embedding. The crops are of "
        f"photographs that were not measured. Untouched it is right for {untouched:.1%} of the crops; "
        f"{1 / subjects:.1%} would be chance."
    )
    for row in rows:
        if row["draw"] is None and row["features"]:
            yield f"{_without(row)}: right for {row['accuracy']:.1%}{_beside(rows, row)}."
    if any(row["draw"] is None and (row["mass"] or 0.0) > MOST for row in rows):
        yield (
            f"Where a group has over {MOST:.0%} of the activation, random features of as much are largely the same "
            "features: comparing the two says little."
        )


def _without(row: dict[str, Any]) -> str:
    group = "of outlier tokens" if row["group"] == ON_OUTLIERS else f"{row['group']} ones"
    return f"Without the {row['features']:,} {group} ({row['mass']:.0%} of the activation)"


def _beside(rows: list[dict[str, Any]], row: dict[str, Any]) -> str:
    """The means of the random groups, where there are any."""
    said = []
    for match, words in (("size", "as many random features"), ("mass", "random features of as much activation")):
        name = f"minus random of equal {match} as {row['group']}"
        drawn = [other["accuracy"] for other in rows if other["name"] == name]
        if drawn:
            said.append(f"without {words} {sum(drawn) / len(drawn):.1%}")
    return f"; {', '.join(said)}" if said else ""


def say_found(run: Run, page: Path, bundle: Bundle) -> Iterator[str]:
    """Where everything is, and what to do next."""
    yield f"The report: {page}"
    yield f"The table, one row a feature: {run.path / 'scope.parquet'}"
    yield (
        "A dozen photographs are few: the demo shows how the tool works, not what vision models are like. With your "
        "own photographs:"
    )
    yield f"  infoscope measure --sae {shlex.quote(str(bundle.sae))} --model {shlex.quote(str(bundle.model))} \\"
    yield "      --images FOLDER --out my-run && infoscope report my-run"
