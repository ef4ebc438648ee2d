"""Targets of dense tasks: for every pixel, and for every patch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from infoscope.analyses.probes.convex import Examples, Stream
from infoscope.analyses.probes.reading import DenseFeatures, Index, Report, Target, Targets, class_mask, in_order
from infoscope.errors import InfoscopeError, check_choice
from infoscope.images.source import ImageSource
from infoscope.runtime.choices import Resize

# What does not count, in masks of up to 255 classes, and in masks of more.
IGNORE = 255
WIDE_IGNORE = 65535
MOST_CLASSES = WIDE_IGNORE


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


def class_shares(
    targets: Targets, images: Index, grid: int, classes: int, report: Report = lambda *_: None
) -> PatchTargets:
    """The shares of classes among the pixels of each patch that count; patches without any are left out.

    Raises:
        InfoscopeError: a class is out of range.

    Example:
        >>> class Masks(list):
        ...     def target(self, index):
        ...         return self[index]
        >>> mask = np.array([[0, 0, 1, 255], [0, 1, 255, 255]], np.uint8)
        >>> found = class_shares(Masks([mask]), np.array([0]), grid=2, classes=2)
        >>> found.rows.tolist(), found.values.toarray().tolist(), found.weight.tolist()
        ([0, 1, 2], [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], [1.0, 0.5, 1.0])
    """

    def of(index: int) -> tuple[Float64[np.ndarray, "patch target"], Float64[np.ndarray, " patch"]]:
        mask, counts = class_mask(targets, index, classes)
        patch = patch_of(mask.shape, grid)
        seen = np.bincount((patch * classes + mask)[counts], minlength=grid * grid * classes).reshape(-1, classes)
        pixels = np.bincount(patch.ravel(), minlength=grid * grid)
        total = seen.sum(1)
        return seen / np.maximum(total, 1)[:, None], total / np.maximum(pixels, 1)

    return _gather(of, images, grid, report)


def mean_depths(targets: Targets, images: Index, grid: int, report: Report = lambda *_: None) -> PatchTargets:
    """The mean depth of the pixels of each patch that have one; patches without any are left out.

    Raises:
        InfoscopeError: a depth is negative or not finite.
    """

    def of(index: int) -> tuple[Float64[np.ndarray, "patch target"], Float64[np.ndarray, " patch"]]:
        depth = depth_map(targets, index)
        patch = patch_of(depth.shape, grid).ravel()
        valid = (depth > 0).ravel().astype(np.float64)
        total = np.bincount(patch, weights=valid, minlength=grid * grid)
        summed = np.bincount(patch, weights=depth.ravel(), minlength=grid * grid)
        pixels = np.bincount(patch, minlength=grid * grid)
        return (summed / np.maximum(total, 1))[:, None], total / np.maximum(pixels, 1)

    return _gather(of, images, grid, report)


def depth_map(targets: Targets, index: int) -> Float32[np.ndarray, "row column"]:
    """An image's depths in metres, 0 where there is none.

    Raises:
        InfoscopeError: a depth is negative or not finite.
    """
    depth = np.asarray(targets.target(index), dtype=np.float32)
    if not np.isfinite(depth).all() or (depth < 0).any():
        raise InfoscopeError(f"the depths of image {index} are negative or not finite somewhere: mark holes by 0")
    return depth


def patch_of(shape: tuple[int, ...], grid: int) -> Target:
    """The patch, row-major, that each pixel's centre lies in.

    Example:
        >>> patch_of((2, 3), grid=2).tolist()
        [[0, 1, 1], [2, 3, 3]]
    """
    row, column = ((2 * np.arange(size) + 1) * grid // (2 * size) for size in shape)
    return row[:, None] * grid + column[None]


def _gather(of: Any, images: Index, grid: int, report: Report) -> PatchTargets:
    from scipy.sparse import csr_matrix, vstack

    rows, values, weights = [], [], []
    for index in images:
        value, weight = of(int(index))
        kept = np.flatnonzero(weight > 0)
        rows.append(int(index) * grid * grid + kept)
        values.append(csr_matrix(value[kept].astype(np.float32)))
        weights.append(weight[kept].astype(np.float32))
        report()
    return PatchTargets(np.concatenate(rows), vstack(values, format="csr"), np.concatenate(weights))
