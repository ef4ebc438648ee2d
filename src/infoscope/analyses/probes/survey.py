"""One look at all targets of a split before anything is computed: what is wrong with them, and how often each is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from infoscope.analyses.probes.targets import DenseTargets, ignore_value
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import ahead, decode_threads
from infoscope.runtime.progress import progress


@dataclass(frozen=True)
class ClassCounts:
    """How many pixels of a split are of each class.

    Attributes:
        classes: the classes' names.
        pixels: of each class.
        ignored: pixels that do not count.
    """

    classes: tuple[str, ...]
    pixels: Int64[np.ndarray, " class"]
    ignored: int

    @property
    def most_frequent(self) -> int:
        """The class of most pixels; of several the first."""
        return int(self.pixels.argmax())


@dataclass(frozen=True)
class DepthCounts:
    """The depths of a split.

    Attributes:
        mean: over all pixels that count, in metres.
        pixels: that count.
        holes: that do not.
    """

    mean: float
    pixels: int
    holes: int


def targets_ahead(
    targets: DenseTargets, indices: Iterable[int], threads: int | None = None
) -> Iterator[tuple[int, Shaped[np.ndarray, "row column"]]]:
    """Targets in the order of ``indices``, read ahead by threads; a bounded number is in memory.

    Raises:
        InfoscopeError: a target cannot be read or does not belong to its photograph.
    """
    return ahead(targets.target, indices, 4 * (threads or decode_threads()), threads)


def count_classes(targets: DenseTargets, indices: Iterable[int] | None = None) -> ClassCounts:
    """Read every mask of a split once.

    Args:
        targets: the split.
        indices: which photographs; all when not given.

    Raises:
        InfoscopeError: a mask is wrong (`DenseTargets.target`), or no pixel counts.
    """
    count = len(targets.classes)
    ignore = ignore_value(count)
    pixels, ignored = np.zeros(count, np.int64), 0
    for target in _each(targets, indices):
        found = np.bincount(target.ravel(), minlength=count)
        pixels += found[:count]
        ignored += int(found[ignore:].sum())
    if not pixels.any():
        raise InfoscopeError(f"no pixel of the masks of {targets.images.name} counts: check the number that is ignored")
    return ClassCounts(targets.classes, pixels, ignored)


def measure_depths(targets: DenseTargets, indices: Iterable[int] | None = None) -> DepthCounts:
    """Read every depth map of a split once.

    Args:
        targets: the split.
        indices: which photographs; all when not given.

    Raises:
        InfoscopeError: a depth map is wrong (`DenseTargets.target`), or there is none.
    """
    total, pixels, holes = 0.0, 0, 0
    for target in _each(targets, indices):
        counted = target[target > 0]
        total += float(counted.sum(dtype=np.float64))
        pixels += len(counted)
        holes += target.size - len(counted)
    if not pixels:
        raise InfoscopeError(f"no depth map of {targets.images.name} has a depth: check --depth-scale")
    return DepthCounts(total / pixels, pixels, holes)


def check_trainable(train: ClassCounts) -> None:
    """Refuse a training split of one class.

    Raises:
        InfoscopeError: all its pixels that count are of one class.
    """
    if np.count_nonzero(train.pixels) < 2:
        raise InfoscopeError(
            f"all pixels of the training masks are of class {train.classes[train.most_frequent]}: a probe needs two "
            "classes to tell apart"
        )


def untrained_classes(train: ClassCounts, other: ClassCounts) -> tuple[str, ...]:
    """Classes that another split is judged by and the training split has no pixel of; their IoU is 0 for any probe.

    Raises:
        InfoscopeError: the splits have other classes.

    Example:
        >>> train, test = (ClassCounts(("sky", "cat"), np.array(pixels), 0) for pixels in ([9, 0], [5, 4]))
        >>> untrained_classes(train, test)
        ('cat',)
    """
    if other.classes != train.classes:
        raise InfoscopeError("splits have other classes: give all of them the classes of the training split")
    return tuple(train.classes[number] for number in np.flatnonzero((other.pixels > 0) & (train.pixels == 0)))


def _each(targets: DenseTargets, indices: Iterable[int] | None) -> Iterator[Shaped[np.ndarray, "row column"]]:
    chosen = list(range(len(targets)) if indices is None else indices)
    with progress("Reading targets", len(chosen), "targets") as advance:
        for _, target in targets_ahead(targets, chosen):
            yield target
            advance()
