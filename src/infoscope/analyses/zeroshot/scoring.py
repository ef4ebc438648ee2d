"""The pass over images: logits of every variant, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.variants import Variant
from infoscope.analyses.zeroshot.config import Probability
from infoscope.analyses.zeroshot.image_head import ImageHead
from infoscope.analyses.zeroshot.metrics import Scores, score_logits
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import decode_ahead
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.images.watched import ChangedImageError, Watched
from infoscope.runtime.execution import Execution
from infoscope.runtime.partials import Arrays, Part, Partials, shards
from infoscope.runtime.progress import progress

# What the images of a shard were like, and their files (see `Watched`).
CONTENTS, STATES = "contents", "states"
COLUMNS = tuple(each.name for each in fields(Scores))


@dataclass(frozen=True, eq=False)
class Task:
    """What is done to each image.

    Attributes:
        edited: the model without the features.
        head: from its output to logits.
        vectors: the classes' embeddings, on the model's device.
        label: of every image of the source, or `UNKNOWN`.
        probability: what logits become.
        variants: the variants, the untouched model first.
        views: how an image becomes the model's input.
    """

    edited: EditedBackbone
    head: ImageHead
    vectors: Float32[Tensor, "class embedding"]
    label: Int64[np.ndarray, " image"]
    probability: Probability
    variants: Sequence[Variant]
    views: Views


@dataclass(frozen=True)
class Shard:
    """Finished images, with what is kept of each variant.

    Attributes:
        part: the arrays: ``image``, and each column of each variant.
    """

    part: Part

    def image(self) -> Int64[np.ndarray, " image"]:
        """Positions in the source."""
        return self.part.rows("image")

    def scores(self, variant: int) -> Scores:
        """Those of a variant, by its place."""
        return Scores(**{column: self.part.rows(f"{column}-{variant}") for column in COLUMNS})


def score_images(
    task: Task,
    images: Watched,
    partials: Partials,
    key: str,
    shard_images: int,
    execution: Execution,
) -> tuple[list[Shard], list[tuple[int, str]]]:
    """Pass all images through all variants, a shard at a time.

    Args:
        task: what is done to each.
        images: the images; shards whose images have changed since are not taken.
        partials: where finished shards are kept and found.
        key: what all results depend on, as a word: shards of another are not taken.
        shard_images: images to a shard.
        execution: how the passes run.

    Returns:
        The shards in order, and position and reason of each image that could not be read.

    Raises:
        InfoscopeError: a logit is not finite, an image changes meanwhile, or a shard cannot be kept.
    """
    done: list[Shard] = []
    skipped: list[tuple[int, str]] = []
    count = execution.batch_size or task.edited.backbone.batch_size
    with progress("Scoring", len(images), f"images in {len(task.variants)} variants") as advance:
        for shard in shards(len(images), shard_images):
            name = f"{key}-{shard.start}-{len(shard)}"
            found = partials.read(name) if name in partials else None
            if found is not None and _still(images, shard, found):
                kept = found
                advance(len(shard))
            else:
                kept = _read_shard(task, images, shard, count, execution.threads, advance)
                partials.put(name, kept)
            skipped += list(zip(kept.pop("skipped").tolist(), kept.pop("reason").tolist(), strict=True))
            if len(kept["image"]):
                done.append(Shard(partials.part(name, kept)))
    return done, skipped


def _still(images: Watched, shard: range, kept: Arrays) -> bool:
    """Whether the images of a shard that an earlier start finished are still what they were."""
    if CONTENTS not in kept or STATES not in kept:
        return False
    before = images.contents[shard.start : shard.stop].copy()
    index = np.arange(shard.start, shard.stop)
    try:
        images.expect(index, kept[CONTENTS])
        if str(kept[STATES]) != images.states:
            images.verify(index)
    except ChangedImageError:
        images.contents[index] = before
        return False
    return True


def _read_shard(
    task: Task, images: Watched, shard: range, count: int, threads: int | None, advance: Callable[..., None]
) -> Arrays:
    found: dict[str, list[np.ndarray]] = {}
    read: list[int] = []
    skipped: list[tuple[int, str]] = []
    for batch in decode_ahead(images, shard, task.views.full, count, threads):
        skipped += batch.unreadable
        if batch.index:
            read += batch.index
            for place, scores in enumerate(_score_batch(task, images, batch.index, batch.pixels)):
                for column in COLUMNS:
                    found.setdefault(f"{column}-{place}", []).append(getattr(scores, column))
        advance(len(batch.index) + len(batch.unreadable))
    return {
        "image": np.array(read, np.int64),
        "skipped": np.array([index for index, _ in skipped], np.int64),
        "reason": np.array([reason for _, reason in skipped], np.str_),
        CONTENTS: images.contents[shard.start : shard.stop].copy(),
        STATES: np.array(images.states),
        **{name: np.concatenate(parts) for name, parts in found.items()},
    }


def _score_batch(task: Task, images: ImageSource, index: list[int], pixels: np.ndarray) -> Iterator[Scores]:
    """What is kept of each variant, in their order."""
    ids = [images.ids[each] for each in index]
    with torch.inference_mode():
        for variant, outputs in task.edited.run(pixels, ids, task.variants, task.head.blocks):
            logits = task.head.score(outputs, task.vectors).cpu().numpy().astype(np.float64)
            broken = ~np.isfinite(logits).all(1)
            if broken.any():
                raise InfoscopeError(
                    f"{task.edited.backbone.name} ({variant.name}) gives logits that are NaN or infinite on "
                    f"{ids[int(np.argmax(broken))]}: choose another --precision, or fetch the model again"
                )
            yield score_logits(logits, task.label[index], task.probability)
