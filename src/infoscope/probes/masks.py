"""Masks: the class of every pixel, as files hold it and as probes take it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Integer, Shaped
from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.decode import UnreadableImageError, as_stored
from infoscope.images.prefetch import decode_threads
from infoscope.probes.targets import IGNORE, MOST_CLASSES, ignore_value
from infoscope.progress import progress

GREATEST = 65535
UNKNOWN = -1
# Wrong numbers are named up to here.
NAMED = 5
LOSSY = frozenset({"JPEG", "JPEG2000", "WEBP", "AVIF"})


@dataclass(frozen=True)
class Coding:
    """How the numbers in mask files stand for classes.

    Attributes:
        ignore: numbers in the files that do not count.
        reduce_zero_label: 0 does not count either, and class 0 is written as 1.

    Example:
        >>> Coding(reduce_zero_label=True).decode(np.array([[0, 1, 150, 255]]), 150, "x.png")
        array([[255,   0, 149, 255]], dtype=uint8)
    """

    ignore: tuple[int, ...] = (IGNORE,)
    reduce_zero_label: bool = False

    def decode(
        self, values: Integer[np.ndarray, "row column"], classes: int, file: str
    ) -> Integer[np.ndarray, "row column"]:
        """Class numbers from 0, with `ignore_value` for what does not count.

        Raises:
            InfoscopeError: a number is neither a class nor ignored.
        """
        table = _table(self, classes)
        inside = (values >= 0) & (values <= GREATEST)
        found = table[np.where(inside, values, GREATEST)]
        unknown = (found == UNKNOWN) | ~inside
        if unknown.any():
            numbers = np.unique(values[unknown]).tolist()
            more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
            first = int(self.reduce_zero_label)
            raise InfoscopeError(
                f"{file} has the number{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:NAMED]))}{more}, "
                f"but {classes} classes are numbered {first} to {first + classes - 1}: give the number that does not "
                "count (--ignore-index), --reduce-zero-label where 0 does not, or the names of all classes"
            )
        return found.astype(np.uint8 if ignore_value(classes) == IGNORE else np.uint16)


@cache
def _table(coding: Coding, classes: int) -> Int32[np.ndarray, " number"]:
    """The class of each number in a file."""
    number = np.arange(GREATEST + 1, dtype=np.int32)
    table = number - int(coding.reduce_zero_label)
    table[(table < 0) | (table >= classes)] = UNKNOWN
    ignored = [one for one in coding.ignore if 0 <= one <= GREATEST] + [0] * coding.reduce_zero_label
    table[ignored] = ignore_value(classes)
    table.setflags(write=False)
    return table


def read_mask(file: str) -> Shaped[np.ndarray, "row column"]:
    """The numbers in a mask: of a palette picture its indices, of a grey one its values, of 8 or 16 bits.

    Raises:
        InfoscopeError: the file cannot be read, has colours in place of numbers, or was compressed with loss.
    """

    def stored(image: Image.Image) -> tuple[str | None, str, Shaped[np.ndarray, "row column"] | None]:
        plain = image.mode in ("1", "L", "P", "I") or image.mode.startswith("I;16")
        return image.format, image.mode, np.asarray(image) if plain else None

    try:
        kind, mode, values = as_stored(Path(file), stored)
    except UnreadableImageError as error:
        raise InfoscopeError(
            f"cannot read the mask {file}: {error}; restore it, or move it and its photograph away"
        ) from error
    if values is None:
        raise InfoscopeError(
            f"the mask {file} is coded in colours (mode {mode}), and probes need class numbers: save each pixel's "
            "class number as a grey or palette PNG"
        )
    if kind in LOSSY:
        raise InfoscopeError(
            f"the mask {file} is a {kind}, which may change class numbers: save masks as PNG, from where they are whole"
        )
    return values.astype(np.int32)


def numbers_in(files: Sequence[str], show_progress: bool = True) -> list[int]:
    """All numbers that occur in masks, ascending.

    Raises:
        InfoscopeError: as for `read_mask`.
    """
    seen = np.zeros(GREATEST + 1, bool)
    executor = ThreadPoolExecutor(decode_threads(), thread_name_prefix="masks")
    try:
        with progress("Looking for classes", len(files), "masks", enabled=show_progress) as advance:
            for file, numbers in zip(files, executor.map(lambda file: np.unique(read_mask(file)), files), strict=True):
                if len(numbers) and not (numbers[0] >= 0 and numbers[-1] <= GREATEST):
                    raise InfoscopeError(
                        f"the mask {file} has numbers below 0 or above {GREATEST}: no class numbers"
                        "; save each pixel's class number"
                    )
                seen[numbers] = True
                advance()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
    return np.flatnonzero(seen).tolist()


def classes_from(numbers: Sequence[int], coding: Coding) -> tuple[str, ...]:
    """The classes that numbers in masks speak of: 0 up to the largest, each named by its number in the files.

    Raises:
        InfoscopeError: there is none, or the largest is beyond what a mask can hold.

    Example:
        >>> classes_from([0, 1, 3, 255], Coding())
        ('0', '1', '2', '3')
    """
    first = int(coding.reduce_zero_label)
    counted = [number for number in numbers if number >= first and number not in coding.ignore]
    if not counted:
        raise InfoscopeError("no mask has a class: every number is ignored; check --ignore-index")
    if counted[-1] >= MOST_CLASSES:
        raise InfoscopeError(f"masks have the number {counted[-1]}: give it as --ignore-index if it does not count")
    return tuple(str(number) for number in range(first, counted[-1] + 1))
