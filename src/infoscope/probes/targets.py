"""Pictures with a target for every pixel, and how a target is laid out as the model's view is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from infoscope.errors import check_choice
from infoscope.images.resize import Resize
from infoscope.images.source import ImageSource

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
