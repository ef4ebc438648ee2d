"""Classes: their names as people list them in files, and a number for the class of every image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from infoscope.errors import InfoscopeError
from infoscope.runtime.sheet import is_sheet, read_columns, reads_like_a_header
from infoscope.runtime.text import read_lines

# What a table's columns may be called. Of several columns that may hold the names, the one named first here counts: who
# writes both `label` and `name` has numbers or codes in the former.
NAMES = ("class_name", "classname", "label_name", "name", "names", "class", "classes", "label", "labels")
FOLDERS = ("folder", "wnid", "synset", "directory")
NUMBERS = ("number", "class_number", "class_index", "class_id", "label_id", "index", "idx", "id", "value")
_WHAT = "the names of classes in"
# Where a data set does not say which of its columns is the label.
USUAL_COLUMN = "label"


@dataclass(frozen=True)
class ClassList:
    """Names of classes in the order of the file.

    Attributes:
        names: of each class.
        folders: the folder of each class's images, where a table says so.
    """

    names: tuple[str, ...]
    folders: tuple[str, ...] | None = None


def read_class_list(path: Path, first: int | None = None) -> ClassList:
    r"""Names of classes, from a ``.csv`` or ``.tsv`` with a header or from any other file with a name a line.

    Args:
        path: the file. In a table the names are in the column called ``class_name``, ``label_name``, ``name``,
            ``class`` or ``label``, and of several the first in this order; other columns are left alone. A column
            called ``folder`` or ``wnid`` names the folders of the images. Where a column numbers the rows (``id``,
            ``index``; or a ``class`` or ``label`` that holds whole numbers beside the names), the rows must be in its
            order.
        first: the number of the first class; by default 0 or 1, whichever the rows begin with.

    Raises:
        InfoscopeError: the file cannot be read, is no such table, has rows out of the order of their numbers, or is a
            plain list that begins with a header.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "classes.csv"
        >>> _ = file.write_text('label,name\n0,tench\n1,"church, building"\n')
        >>> read_class_list(file).names
        ('tench', 'church, building')
    """
    if is_sheet(path):
        roles = {"folder": FOLDERS, "number": NUMBERS, "coded": ("class", "classes", "label", "labels")}
        columns = read_columns(path, {"name": NAMES}, roles, _WHAT, prefer_first=True)
        numbers = columns.values.get("number")
        if numbers is None:
            coded = columns.values.get("coded", [])
            numbers = coded if all(cell.isdecimal() for cell in coded) else []
        _check_order(columns.lines, numbers, path, first)
        folders = columns.values.get("folder")
        return ClassList(tuple(columns.values["name"]), None if folders is None else tuple(folders))
    lines = read_lines(path, _WHAT)
    if lines and reads_like_a_header(lines[0], NAMES, (*FOLDERS, *NUMBERS)):
        raise InfoscopeError(
            f"{path} begins with {lines[0][:60]!r}, which reads like the header of a table and no class: take the "
            "line out, or save the table as .csv (a class of that name can be given in a JSON list)"
        )
    tabbed = next((line for line in lines if "\t" in line), None)
    if tabbed is not None:
        raise InfoscopeError(
            f"{path} has the line {tabbed[:60]!r}, and a tab is in no class's name: keep the names alone, or "
            "save the table as .tsv with a header"
        )
    return ClassList(tuple(lines))


def _check_order(lines: Sequence[int], numbers: Sequence[str], path: Path, first: int | None) -> None:
    """Refuse rows that are not in the order of their numbers: names would go to the wrong classes."""
    starts: tuple[int, ...] = (0, 1) if first is None else (first,)
    for row, (line, number) in enumerate(zip(lines, numbers, strict=False)):
        if not re.fullmatch(r"[0-9]+", number):
            raise InfoscopeError(
                f"line {line} of {path} has {number!r} in a column that should number the classes: call the column "
                "folder, if these are folders of images, or take it out"
            )
        starts = tuple(start for start in starts if int(number) == start + row)
        if not starts:
            start = "0 or 1" if first is None else first
            raise InfoscopeError(
                f"line {line} of {path} has the number {number} out of order: sort the rows by their numbers, from "
                f"{start} on with none left out"
            )


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
    labels: Sequence[str | int | None], names: Sequence[str] | None = None, source: str = "the images"
) -> ClassNumbers:
    """Number labels.

    Args:
        labels: each image's label, or its number where ``names`` are given.
        names: the classes, in order. By default they are the distinct labels, sorted by value where all are whole
            numbers and by their bytes otherwise.
        source: where the labels are from, for messages.

    Raises:
        InfoscopeError: an image has no label, or one beyond the names.

    Example:
        >>> number_classes(["dog", "cat", "dog"])
        ClassNumbers(classes=('cat', 'dog'), number=array([1, 0, 1]))
        >>> number_classes([10, 9]).classes
        ('9', '10')
    """
    for row, label in enumerate(labels):
        if label is None or label == "" or (names is not None and not _is_number_below(label, len(names))):
            problem = (
                "no label" if label in (None, "", -1) else f"label {label!r}, but there are {len(names or ())} classes"
            )
            raise InfoscopeError(f"image {row} of {source} has {problem}: give a split with labels")
    if names is not None:
        return ClassNumbers(tuple(names), np.array([int(label or 0) for label in labels], np.int64))
    texts = [str(label).strip() for label in labels]
    distinct = set(texts)
    numeric = all(text.isdecimal() for text in distinct)
    classes = sorted(distinct, key=(lambda text: (int(text), text)) if numeric else (lambda text: text.encode()))
    number_of = {name: number for number, name in enumerate(classes)}
    return ClassNumbers(tuple(classes), np.array([number_of[text] for text in texts], np.int64))


def choose_column(columns: Mapping[str, tuple[str, ...] | None], wanted: str | None, source: str) -> str:
    """The column that holds the labels.

    Args:
        columns: the candidates, each with its classes' names where the data set gives them.
        wanted: the column that the user asked for.
        source: the data set, for messages.

    Raises:
        InfoscopeError: that column does not exist, there are no candidates, or the user must choose one.

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
    candidates = named or [*columns]
    raise InfoscopeError(
        f"{source} has no column {USUAL_COLUMN}: choose its labels, as in --labels column:{candidates[0]} "
        f"(its columns: {', '.join(candidates)})"
    )


def _is_number_below(label: Any, count: int) -> bool:
    """Whether a label is the number of one of ``count`` classes; a file may hold anything in its place."""
    try:
        return bool(0 <= int(label) < count and int(label) == float(label))
    except (TypeError, ValueError, OverflowError):
        return False
