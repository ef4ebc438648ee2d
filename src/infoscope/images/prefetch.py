"""Decoding ahead of the model: threads keep a bounded number of views ready, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.source import ImageSource, note_doubt, spread_evenly
from infoscope.images.wide import DOUBT
from infoscope.runtime.execution import available_cores
from infoscope.runtime.progress import progress

Loaded = TypeVar("Loaded")

# Our choice: decoding is far cheaper than a forward pass, so more threads would only take memory.
MOST_DECODE_THREADS = 8
# Images of a sample that are decoded at a time.
_SAMPLE_BATCH = 16


@dataclass(frozen=True)
class Batch:
    """Some images' pixels, and which images were skipped on the way to them.

    Attributes:
        index: the images' positions in the source, in the order they were asked for.
        pixels: uint8, with one leading entry per image.
        unreadable: position and reason of each image that was skipped since the batch before.
    """

    index: list[int]
    pixels: UInt8[np.ndarray, "image ..."]
    unreadable: list[tuple[int, str]]


def decode_threads() -> int:
    """How many threads decode by default: one per core, at most `MOST_DECODE_THREADS`."""
    return min(MOST_DECODE_THREADS, available_cores())


def decode_ahead(
    source: ImageSource,
    indices: Iterable[int],
    view: Callable[[Image.Image], np.ndarray],
    batch_size: int,
    threads: int | None = None,
) -> Iterator[Batch]:
    """Batches of decoded views, in the order of ``indices``, whatever the number of threads.

    At most two batches beyond the one in use are in memory.

    Args:
        source: the images.
        indices: which images, in which order.
        view: turns an image into pixels, as `Views.full` and `Views.crops` do; runs in the threads.
        batch_size: readable images in a batch; the last may have fewer, or none if it only reports skipped images.
        threads: decoding threads; `decode_threads` by default.

    Yields:
        A `Batch`.

    Example:
        >>> from infoscope.images.source import open_images
        >>> images = open_images(np.zeros((5, 8, 8, 3), np.uint8))
        >>> [batch.index for batch in decode_ahead(images, range(5), np.asarray, batch_size=2)]
        [[0, 1], [2, 3], [4]]
    """

    def load(index: int) -> np.ndarray | str:
        try:
            image = source[index]
            doubt = image.info.get(DOUBT)
            if doubt is not None:
                note_doubt(source, index, doubt)
            return view(image)
        except UnreadableImageError as error:
            return str(error)

    ready: list[int] = []
    pixels: list[np.ndarray] = []
    unreadable: list[tuple[int, str]] = []

    def batch() -> Batch:
        return Batch(ready, np.stack(pixels) if pixels else np.zeros((0,), np.uint8), unreadable)

    with closing(ahead(load, indices, 3 * batch_size, threads)) as loading:
        for index, loaded in loading:
            if isinstance(loaded, str):
                unreadable.append((index, loaded))
            else:
                ready.append(index)
                pixels.append(loaded)
            if len(ready) == batch_size:
                yield batch()
                ready, pixels, unreadable = [], [], []
        if ready or unreadable:
            yield batch()


def decode_readable(
    source: ImageSource,
    indices: Iterable[int],
    view: Callable[[Image.Image], np.ndarray],
    batch_size: int,
    threads: int | None,
    skipped: list[tuple[int, str]],
    advance: Callable[[int], None],
) -> Iterator[Batch]:
    """Batches as `decode_ahead` gives them, without those that hold no image.

    Args:
        source: the images.
        indices: which images, in which order.
        view: image to pixels.
        batch_size: images in a batch.
        threads: decoding threads; `decode_threads` by default.
        skipped: position and reason of each image that cannot be read are added to it.
        advance: called with the number of images of each batch once it has been used, skipped ones included.

    Yields:
        Batches with at least one image.

    Example:
        >>> from infoscope.images.source import open_images
        >>> images = open_images(np.zeros((3, 8, 8, 3), np.uint8))
        >>> [batch.index for batch in decode_readable(images, range(3), np.asarray, 2, 1, [], print)]
        2
        1
        [[0, 1], [2]]
    """
    for batch in decode_ahead(source, indices, view, batch_size, threads):
        skipped.extend(batch.unreadable)
        if batch.index:
            yield batch
        advance(len(batch.index) + len(batch.unreadable))


def decode_sample(
    source: ImageSource, most: int, view: Callable[[Image.Image], np.ndarray], label: str
) -> list[np.ndarray]:
    """The views of at most ``most`` images, spread evenly over those there are, without those that cannot be read.

    Args:
        source: the images.
        most: how many of them.
        view: image to pixels.
        label: what the progress line says.

    Raises:
        InfoscopeError: none of these images can be read.

    Example:
        >>> from infoscope.images.source import open_images
        >>> len(decode_sample(open_images(np.zeros((9, 8, 8, 3), np.uint8)), 3, np.asarray, "Reading"))
        3
    """
    chosen = sorted(spread_evenly(len(source), most))
    views: list[np.ndarray] = []
    skipped: list[tuple[int, str]] = []
    with progress(label, len(chosen), "images") as advance:
        for batch in decode_readable(source, chosen, view, _SAMPLE_BATCH, None, skipped, advance):
            views += list(batch.pixels)
    if not views:
        raise all_unreadable(source, skipped[0][1])
    return views


def ahead(
    load: Callable[[int], Loaded], indices: Iterable[int], most: int, threads: int | None = None
) -> Generator[tuple[int, Loaded], None, None]:
    """Each index with what threads loaded for it, in the order of ``indices``.

    Args:
        load: runs in the threads.
        indices: what to load, in which order.
        most: how many may be loaded or loading at a time.
        threads: how many threads; `decode_threads` by default.

    Yields:
        An index and what ``load`` gave for it. What ``load`` raises is raised here when its index comes up.

    Example:
        >>> list(ahead(lambda index: index**2, range(4), most=2))
        [(0, 0), (1, 1), (2, 4), (3, 9)]
    """
    waiting = iter(indices)
    executor = ThreadPoolExecutor(threads or decode_threads(), thread_name_prefix="ahead")
    try:
        queue = deque((index, executor.submit(load, index)) for index in islice(waiting, most))
        while queue:
            index, future = queue.popleft()
            queue.extend((following, executor.submit(load, following)) for following in islice(waiting, 1))
            yield index, future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def all_unreadable(source: ImageSource, reason: str) -> InfoscopeError:
    """The error for a source of which no image can be read."""
    return InfoscopeError(
        f"none of the {len(source)} images in {source.name} can be read (the first: {reason})"
        "; name a folder of photographs that can be opened"
    )
