"""What dense heads read: patch tokens of images, and a target for each image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float16, Float32, Shaped

from infoscope.errors import InfoscopeError
from infoscope.probes.reading import Rows, checked

Patches: TypeAlias = Float32[np.ndarray, "_ _ _"] | Float16[np.ndarray, "_ _ _"]
Target: TypeAlias = Shaped[np.ndarray, "row column"]


@runtime_checkable
class Targets(Protocol):
    """A target for each image, laid out as the view the model had, at its own resolution."""

    def __len__(self) -> int: ...

    def target(self, index: int) -> np.ndarray:
        """Class numbers, the type's largest where they do not count; or metres, 0 for holes."""
        ...


@dataclass(frozen=True, eq=False)
class DenseFeatures:
    """Patch tokens of images, arrays or memmaps.

    Attributes:
        patches: ``[image, patch, feature]``, patches row-major on a square grid.
        cls: each image's CLS token, where a recipe has it beside each patch.

    Raises:
        InfoscopeError: the patches are no square grid, or the CLS tokens are of other images or another width.

    Example:
        >>> DenseFeatures(np.zeros((2, 9, 4), np.float32)).grid
        3
    """

    patches: Patches
    cls: Rows | None = None

    def __post_init__(self) -> None:
        if self.patches.shape[1] != self.grid**2 or self.grid == 0:
            raise InfoscopeError(f"{self.patches.shape[1]} patches are no square grid: leave out CLS and registers")
        if self.cls is not None and self.cls.shape != (self.patches.shape[0], self.patches.shape[2]):
            raise InfoscopeError(
                f"CLS tokens of shape {list(self.cls.shape)} do not belong to patches of shape "
                f"{list(self.patches.shape)}: store one an image, of the same width"
            )

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def grid(self) -> int:
        """p, patches a side."""
        return math.isqrt(self.patches.shape[1])

    @property
    def width(self) -> int:
        """Features of a patch token."""
        return int(self.patches.shape[2])

    @property
    def rows(self) -> Rows:
        """All patches as rows, image after image; no copy."""
        return self.patches.reshape(-1, self.width)

    def read(self, index: int, *, with_cls: bool = False) -> Float32[np.ndarray, "patch feature"]:
        """One image's patches, each with the CLS token after it where that is asked for.

        Raises:
            InfoscopeError: they are not finite, or there are no CLS tokens.
        """
        patches = np.asarray(self.patches[index], dtype=np.float32)
        if with_cls:
            if self.cls is None:
                raise InfoscopeError(
                    "this recipe reads the CLS token beside each patch, and none is stored"
                    "; extract them anew, with this recipe"
                )
            cls = np.asarray(self.cls[index], dtype=np.float32)
            patches = np.concatenate([patches, np.broadcast_to(cls, patches.shape)], axis=1)
        return checked(patches, np.full(len(patches), index))


def check_pairs(features: DenseFeatures, targets: Targets) -> None:
    """Refuse features and targets of other images.

    Raises:
        InfoscopeError: their numbers differ, or there are none.
    """
    if len(features) != len(targets):
        raise InfoscopeError(f"there are {len(features)} images' features and {len(targets)} targets: give one each")
    if not len(features):
        raise InfoscopeError("there are no images to train or choose on: check the split")


def class_mask(targets: Targets, index: int, classes: int) -> tuple[Target, Target]:
    """An image's classes as int64, 0 where they do not count, and where they do.

    Raises:
        InfoscopeError: a class is out of range.
    """
    mask = targets.target(index)
    counts = mask != np.iinfo(mask.dtype).max
    found = np.where(counts, mask, 0).astype(np.int64)
    if found.size and (found.max() >= classes or found.min() < 0):
        wrong = found.max() if found.max() >= classes else found.min()
        raise InfoscopeError(
            f"the mask of image {index} has class {wrong}, and there are {classes} classes, from 0; void pixels are "
            f"{np.iinfo(mask.dtype).max}"
        )
    return found, counts


Report: TypeAlias = Callable[..., None]
