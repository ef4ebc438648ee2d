"""Features of every variant, extracted once to disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.resize import Resize
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.probes.readout import Readout
from infoscope.probes.store import FeatureStore
from infoscope.progress import progress
from infoscope.removal.edited import EditedBackbone
from infoscope.removal.variant import Variant

# Our choice: progress is written, and the disk waited for, once in so many images.
KEPT_EVERY = 256


@dataclass(frozen=True)
class Wanted:
    """A variant, what is kept of it, and where.

    Attributes:
        variant: how the backbone is edited.
        readout: what is kept.
        store: where.
    """

    variant: Variant
    readout: Readout
    store: FeatureStore


def extract(
    edited: EditedBackbone,
    images: ImageSource,
    wanted: Sequence[Wanted],
    *,
    resize: Resize,
    batch_size: int | None = None,
    threads: int | None = None,
    show_progress: bool = True,
    title: str = "Extracting",
) -> None:
    """Extract the features of some variants in one pass over the images; images that are in are not read again.

    Memory holds one batch of one variant's tokens at a time, whatever the number of images or variants.

    Args:
        edited: the model and what is needed to edit it.
        images: the images of one split.
        wanted: the variants.
        resize: how an image becomes square.
        batch_size: images to a forward pass; changes memory and speed, not the result.
        threads: decoding threads.
        show_progress: report progress on stderr.
        title: of the progress.

    Raises:
        InfoscopeError: no image can be read, features are NaN, or the disk is full.
    """
    backbone = edited.backbone
    views = Views(backbone.patch_size, backbone.grid, 0, resize)
    wanted = [want for want in wanted if want.store.done < len(images)]
    if not wanted:
        return
    first = min(want.store.done for want in wanted)
    skipped = {at: why for want in wanted for at, why in want.store.skipped.items() if at < first}
    variants = [want.variant for want in wanted]
    blocks = sorted({block for want in wanted for block in want.readout.blocks(backbone, want.variant.site)})
    of_variant = {id(want.variant): want for want in wanted}
    done, unkept, place = first, 0, first - len(skipped)
    with progress(title, len(images) - first, "images", enabled=show_progress) as advance:
        count = batch_size or backbone.batch_size
        for batch in decode_ahead(images, range(first, len(images)), views.full, count, threads):
            skipped.update(batch.unreadable)
            if batch.index:
                ids = [images.ids[index] for index in batch.index]
                for variant, outputs in edited.run(batch.pixels, ids, variants, blocks):
                    want = of_variant[id(variant)]
                    want.store.write(place, want.readout.take(backbone, outputs, variant.site))
                place += len(batch.index)
            read = len(batch.index) + len(batch.unreadable)
            done, unkept = done + read, unkept + read
            if unkept >= KEPT_EVERY or done == len(images):
                for want in wanted:
                    want.store.finished(done, skipped)
                unkept = 0
            advance(read)
    if len(skipped) == len(images):
        raise all_unreadable(images, next(iter(skipped.values())))
