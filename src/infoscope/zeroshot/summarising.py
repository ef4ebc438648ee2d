"""From finished shards to the table of variants, and what shards are recognised by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from infoscope.images.source import ImageSource, ids_sha256
from infoscope.measurement.records import model_identity, model_record
from infoscope.storage.manifest import software_versions
from infoscope.zeroshot.changes import estimate_changes, estimate_levels
from infoscope.zeroshot.config import ZeroshotConfig
from infoscope.zeroshot.metrics import Scores, calibration_error, top_k
from infoscope.zeroshot.record import variant_record
from infoscope.zeroshot.scoring import Shard, Task
from infoscope.zeroshot.tables import variant_row, variants_table

_TOP = 5


def summarise(task: Task, shards: Sequence[Shard], config: ZeroshotConfig, labelled: bool) -> pl.DataFrame:
    """The table of variants; of one at a time all images are in memory, and of the untouched model."""
    statistics = task.edited.statistics
    mass = None if statistics is None else statistics.mass
    rows, untouched = [], None
    for place, variant in enumerate(task.variants):
        scores = Scores.joined([shard.scores(place) for shard in shards])
        estimates = estimate_levels(scores, config.draws, config.seed)
        if untouched is None:
            untouched = scores
        else:
            estimates |= estimate_changes(untouched, scores, config.draws, config.seed)
        plain: dict[str, float | None] = {}
        if labelled:
            plain["calibration_error"] = calibration_error(scores.confidence, scores.right)
            plain["top5"] = top_k(scores.rank, _TOP) if len(task.vectors) > _TOP else None
        rows.append(variant_row(variant, mass, len(scores), estimates, plain))
    return variants_table(rows)


def key_of(task: Task, images: ImageSource, options: dict[str, Any]) -> str:
    """A hash of all that a shard's result depends on, in 16 hex digits.

    Args:
        task: what is done to each image.
        images: the images.
        options: the options, as they are recorded.
    """
    statistics = task.edited.statistics
    replaced = statistics is not None and any(variant.replacement != "zero" for variant in task.variants)
    said = {
        "model": model_identity(model_record(task.edited.backbone)),
        "dictionary": [task.edited.sae.sha256, str(task.edited.sae.activation), task.edited.token_set],
        # What each image is like is kept with its shard.
        "images": [len(images), ids_sha256(images)],
        "label": hashlib.sha256(task.label.tobytes()).hexdigest(),
        "classes": hashlib.sha256(task.vectors.cpu().numpy().tobytes()).hexdigest(),
        "head": [task.head.logits.scale, task.head.logits.bias],
        "variants": [asdict(variant_record(variant)) for variant in task.variants],
        "options": {name: options[name] for name in ("pooled", "probability", "resize")},
        "statistics": [hashlib.sha256(statistics.mean.tobytes()).hexdigest(), statistics.donor_ids, task.edited.seed]
        if replaced and statistics is not None
        else None,
        "software": software_versions(),
    }
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
