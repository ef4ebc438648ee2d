"""Targets of dense tasks: for every pixel, and for every patch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32, Shaped

from infoscope.analyses.probes.convex import Examples, Stream
from infoscope.analyses.probes.reading import DenseFeatures, Index, Target, in_order
from infoscope.errors import check_choice
from infoscope.images.prefetch import ahead, decode_threads
from infoscope.images.source import ImageSource
from infoscope.options import Resize
from infoscope.runtime.progress import progress

# What does not count, in masks of up to 255 classes, and in masks of more.
IGNORE = 255
WIDE_IGNORE = 65535
MOST_CLASSES = WIDE_IGNORE

Report: TypeAlias = Callable[..., None]


@runtime_checkable
class DenseTargets(Protocol):
    """Photographs and, for each, a target of every pixel: class numbers, or depths.

    Targets are read when asked for, from any thread, and pickle as image sources do.
    """

    @property
    def images(self) -> ImageSource:
        """The photographs."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each class number; empty where targets are depths."""

    def __len__(self) -> int: ...

    def target(self, index: int) -> Shaped[np.ndarray, "row column"]:
        """The target of photograph ``index``, laid out as the view is (see `lay_out`).

        Class numbers from 0, uint8 with `IGNORE` for what does not count, or with more than 255 classes uint16 with
        `WIDE_IGNORE` (see `ignore_value`); or float32 metres with 0 for holes.

        Raises:
            InfoscopeError: the target cannot be read or does not belong to the photograph.
        """
        ...


def ignore_value(classes: int) -> int:
    """What stands for "does not count" in masks of so many classes.

    Example:
        >>> ignore_value(150), ignore_value(256)
        (255, 65535)
    """
    return IGNORE if classes <= IGNORE else WIDE_IGNORE


def lay_out(target: Shaped[np.ndarray, "row column"], resize: Resize) -> Shaped[np.ndarray, "row2 column2"]:
    """A target as the view is, at its own resolution: nothing is interpolated.

    The model sees the whole picture under ``stretch``, and its centre square under ``crop``. A view's crop starts at
    a whole pixel of the resized picture, which is less than one of the model's pixels beside the centre taken here.

    Args:
        target: as it is stored, the size of its photograph.
        resize: how the view is made square.

    Example:
        >>> lay_out(np.arange(8).reshape(2, 4), "crop")
        array([[1, 2],
               [5, 6]])
    """
    check_choice("resize", resize, Resize)
    if resize == "stretch":
        return target
    rows, columns = target.shape
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    return target[top : top + side, left : left + side]


@dataclass(frozen=True, eq=False)
class PatchTargets:
    """Targets of the patches of some images; sparse, some 20 bytes a patch.

    Attributes:
        rows: those patches that have a target, as rows of all images' patches.
        values: ``[row, target]``: shares of classes, or one depth; a scipy matrix by rows.
        weight: the share of each patch's pixels that count.
    """

    rows: Index
    values: Any
    weight: Float32[np.ndarray, " row"]

    def stream(self, features: DenseFeatures) -> Stream:
        """As examples to learn from."""

        def examples() -> Iterator[Examples]:
            done = 0
            for rows, which in in_order(features.rows, self.rows):
                part = slice(done, done + len(which))
                done += len(which)
                yield Examples(rows, self.values[part].toarray(), self.weight[part])

        return examples


def patch_of(shape: tuple[int, ...], grid: int) -> Target:
    """The patch, row-major, that each pixel's centre lies in.

    Example:
        >>> patch_of((2, 3), grid=2).tolist()
        [[0, 1, 1], [2, 3, 3]]
    """
    # In whole numbers, so that a pixel whose centre is on an edge belongs to the same patch everywhere.
    row, column = ((2 * np.arange(size) + 1) * grid // (2 * size) for size in shape)
    return row[:, None] * grid + column[None]


def gather(
    of: Callable[[int], tuple[np.ndarray, np.ndarray]], images: Index, grid: int, report: Report
) -> PatchTargets:
    """The targets of the patches of some images.

    Args:
        of: an image's patches' targets, ``[patch, target]``, and the share of each patch's pixels that count.
        images: which.
        grid: patches a side.
        report: called after each image.
    """
    from scipy.sparse import csr_matrix, vstack

    rows, values, weights = [], [], []
    for index in images:
        value, weight = of(int(index))
        counted = np.flatnonzero(weight > 0)
        rows.append(int(index) * grid * grid + counted)
        values.append(csr_matrix(value[counted].astype(np.float32)))
        weights.append(weight[counted].astype(np.float32))
        report()
    return PatchTargets(np.concatenate(rows), vstack(values, format="csr"), np.concatenate(weights))


def once(targets: object, key: Hashable, make: Callable[[], PatchTargets]) -> PatchTargets:
    """What is made of targets, kept with them if they have an attribute ``made`` to keep it in.

    Heads of all variants are trained on the same targets, and reading them takes a fifth of a small head's training.

    Args:
        targets: the targets.
        key: all that it depends on besides them.
        make: makes it.
    """
    made = getattr(targets, "made", None)
    if made is None:
        return make()
    if key not in made:
        made[key] = make()
    found: PatchTargets = made[key]
    return found


def read_targets(
    targets: DenseTargets,
    indices: Iterable[int] | None = None,
    *,
    title: str = "Reading targets",
    threads: int | None = None,
) -> Iterator[Shaped[np.ndarray, "row column"]]:
    """Targets one after the other, read ahead by threads; a bounded number is in memory.

    Args:
        targets: the split.
        indices: which photographs, in this order; all when not given.
        title: of the progress.
        threads: that read; one a core by default.

    Raises:
        InfoscopeError: a target cannot be read or does not belong to its photograph.
    """
    chosen = list(range(len(targets)) if indices is None else indices)
    with progress(title, len(chosen), "targets") as advance:
        for _, target in ahead(targets.target, chosen, 4 * (threads or decode_threads()), threads):
            yield target
            advance()
