"""What a patch is to be given: the shares of classes in it, or its mean depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from infoscope.errors import InfoscopeError
from infoscope.probes.dense import DenseFeatures, Report, Target, Targets, class_mask
from infoscope.probes.moments import Examples, Stream
from infoscope.probes.reading import Index, in_order


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
