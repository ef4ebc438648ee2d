"""A class number for every image, and the names of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from infoscope.errors import InfoscopeError

# Where a data set does not say which of its columns is the label.
USUAL_COLUMN = "label"


@dataclass(frozen=True)
class ClassNumbers:
    """The class of each image.

    Attributes:
        classes: their names.
        number: the class of each image, from 0.
    """

    classes: tuple[str, ...]
    number: Int64[np.ndarray, " image"]

    @property
    def labels(self) -> list[str]:
        """Each image's label by name."""
        return [self.classes[number] for number in self.number.tolist()]


@runtime_checkable
class WithClassNumbers(Protocol):
    """An image source that stores labels beside its images."""

    def class_numbers(self, column: str | None = None) -> ClassNumbers:
        """The class of every image, from a column of labels; no image is decoded."""
        ...


def number_classes(
    values: Sequence[str | int | None], names: Sequence[str] | None = None, source: str = "the images"
) -> ClassNumbers:
    """Number labels.

    Args:
        values: each image's label: its number among ``names``, or without names the label itself.
        names: the classes, in order. Without, the labels there are: by number where all are whole numbers, else by
            their bytes.
        source: where they are from, for messages.

    Raises:
        InfoscopeError: an image has no label, or one beyond the names.

    Example:
        >>> number_classes(["dog", "cat", "dog"])
        ClassNumbers(classes=('cat', 'dog'), number=array([1, 0, 1]))
        >>> number_classes([10, 9]).classes
        ('9', '10')
    """
    for row, value in enumerate(values):
        if value is None or value == "" or (names is not None and not _is_number_below(value, len(names))):
            problem = (
                "no label" if value in (None, "", -1) else f"label {value!r}, but there are {len(names or ())} classes"
            )
            raise InfoscopeError(f"image {row} of {source} has {problem}: give a split with labels")
    if names is not None:
        return ClassNumbers(tuple(names), np.array([int(value or 0) for value in values], np.int64))
    texts = [str(value).strip() for value in values]
    distinct = set(texts)
    numeric = all(text.isdecimal() for text in distinct)
    classes = sorted(distinct, key=(lambda text: (int(text), text)) if numeric else (lambda text: text.encode()))
    place = {name: number for number, name in enumerate(classes)}
    return ClassNumbers(tuple(classes), np.array([place[text] for text in texts], np.int64))


def choose_column(columns: Mapping[str, tuple[str, ...] | None], wanted: str | None, source: str) -> str:
    """The column that holds the labels.

    Args:
        columns: those that may, each with its classes' names where the data set gives them.
        wanted: the one that was asked for.
        source: the data set, for messages.

    Raises:
        InfoscopeError: it is not there, there is none, or it must be chosen.

    Example:
        >>> choose_column({"id": None, "fine": ("a", "b")}, None, "pets")
        'fine'
    """
    if wanted is not None:
        if wanted not in columns:
            raise InfoscopeError(
                f"{source} has no column {wanted} of labels (its columns: {', '.join(columns)})"
                "; name one of these, as column:NAME"
            )
        return wanted
    if USUAL_COLUMN in columns:
        return USUAL_COLUMN
    named = [column for column, names in columns.items() if names is not None]
    if len(named) == 1:
        return named[0]
    if not columns:
        raise InfoscopeError(f"{source} has no column of labels; give --labels, such as a file of paths and labels")
    those = named or [*columns]
    raise InfoscopeError(
        f"{source} has no column {USUAL_COLUMN}: choose its labels, as in --labels column:{those[0]} "
        f"(its columns: {', '.join(those)})"
    )


def _is_number_below(value: Any, count: int) -> bool:
    """Whether a label is the number of one of ``count`` classes; a file may hold anything in their place."""
    try:
        return bool(0 <= int(value) < count and int(value) == float(value))
    except (TypeError, ValueError, OverflowError):
        return False
