"""The pass over images: logits of every variant, and the scores that are kept of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.variants import Variant
from infoscope.analyses.zeroshot.image_head import ImageHead
from infoscope.analyses.zeroshot.metrics import SCORES, Scores, score_logits
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import decode_readable
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.images.watched import ChangedImageError, Watched
from infoscope.options import Probability
from infoscope.runtime.execution import Execution
from infoscope.runtime.partials import Arrays, Part, Partials, shards
from infoscope.runtime.progress import progress

# The entries of a shard that hold hashes of its images and the state of their files (see `Watched`).
CONTENTS, STATES = "contents", "states"


@dataclass(frozen=True, eq=False)
class ZeroshotTask:
    """How each image is classified.

    Attributes:
        edited: the model, from which features are removed.
        head: turns the model's output into logits.
        vectors: embeddings of the classes, on the model's device.
        label: class of every image of the source, or `UNKNOWN`.
        probability: how logits become probabilities.
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
    """The scores of a shard of images.

    Attributes:
        part: the arrays: ``image``, and each score of each variant.
    """

    part: Part

    def image(self) -> Int64[np.ndarray, " image"]:
        """Positions in the source."""
        return self.part.rows("image")

    def scores(self, variant: int) -> Scores:
        """The scores of a variant, given its number."""
        return Scores(**{name: self.part.rows(f"{name}-{variant}") for name in SCORES})


def score_images(
    task: ZeroshotTask,
    images: Watched,
    partials: Partials,
    key: str,
    shard_images: int,
    execution: Execution,
) -> tuple[list[Shard], list[tuple[int, str]]]:
    """Pass all images through all variants, one shard at a time.

    Args:
        task: how each image is classified.
        images: the images; finished shards whose images have changed are computed again.
        partials: where finished shards are kept.
        key: hash of everything that the results depend on; finished shards with another key are ignored.
        shard_images: images to a shard.
        execution: how the passes run.

    Returns:
        The shards in order, and position and reason of each image that could not be read.

    Raises:
        InfoscopeError: a logit is not finite, an image changes during the pass, or a shard cannot be written.
    """
    scored: list[Shard] = []
    skipped: list[tuple[int, str]] = []
    batch_size = execution.batch_size or task.edited.backbone.batch_size
    with progress("Scoring", len(images), f"images in {len(task.variants)} variants") as advance:
        for shard in shards(len(images), shard_images):
            name = f"{key}-{shard.start}-{len(shard)}"
            finished = partials.read(name) if name in partials else None
            if finished is not None and _unchanged(images, shard, finished):
                arrays = finished
                advance(len(shard))
            else:
                arrays = _score_shard(task, images, shard, batch_size, execution.threads, advance)
                partials.put(name, arrays)
            skipped += list(zip(arrays.pop("skipped").tolist(), arrays.pop("reason").tolist(), strict=True))
            if len(arrays["image"]):
                scored.append(Shard(partials.part(name, arrays)))
    return scored, skipped


def _unchanged(images: Watched, shard: range, arrays: Arrays) -> bool:
    """Whether the images of a shard that was finished earlier are still the same."""
    if CONTENTS not in arrays or STATES not in arrays:
        return False
    before = images.contents[shard.start : shard.stop].copy()
    index = np.arange(shard.start, shard.stop)
    try:
        images.expect(index, arrays[CONTENTS])
        if str(arrays[STATES]) != images.states:
            images.verify(index)
    except ChangedImageError:
        # The shard is computed again, from the images as they are now.
        images.contents[index] = before
        return False
    return True


def _score_shard(
    task: ZeroshotTask,
    images: Watched,
    shard: range,
    batch_size: int,
    threads: int | None,
    advance: Callable[..., None],
) -> Arrays:
    """The scores of a shard as named arrays, with what tells later whether its images have changed."""
    scores: dict[str, list[np.ndarray]] = {}
    read: list[int] = []
    skipped: list[tuple[int, str]] = []
    for batch in decode_readable(images, shard, task.views.full, batch_size, threads, skipped, advance):
        read += batch.index
        for variant, of_variant in enumerate(_score_batch(task, images, batch.index, batch.pixels)):
            for name in SCORES:
                scores.setdefault(f"{name}-{variant}", []).append(getattr(of_variant, name))
    return {
        "image": np.array(read, np.int64),
        "skipped": np.array([index for index, _ in skipped], np.int64),
        "reason": np.array([reason for _, reason in skipped], np.str_),
        CONTENTS: images.contents[shard.start : shard.stop].copy(),
        STATES: np.array(images.states),
        **{name: np.concatenate(parts) for name, parts in scores.items()},
    }


def _score_batch(task: ZeroshotTask, images: ImageSource, index: list[int], pixels: np.ndarray) -> Iterator[Scores]:
    """The scores of each variant, in the order of the variants."""
    ids = [images.ids[number] for number in index]
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
