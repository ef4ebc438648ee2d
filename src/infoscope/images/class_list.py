"""The names of classes as people list them: a text file with a name a line, or a column of a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from infoscope.errors import InfoscopeError
from infoscope.runtime.sheet import Columns, is_sheet, read_columns, reads_like_a_header
from infoscope.runtime.text import read_lines

# What a table's columns may be called.
NAMES = ("name", "class", "label", "class_name", "classname", "label_name", "names", "classes", "labels")
FOLDERS = ("folder", "wnid", "synset", "directory")
NUMBERS = ("number", "id", "index", "idx", "class_id", "class_index", "class_number", "label_id", "value")
_WHAT = "the names of classes in"


@dataclass(frozen=True)
class ClassList:
    """Names of classes in the order of the file.

    Attributes:
        names: of each class.
        folders: the folder of its images, where a table says so.
    """

    names: tuple[str, ...]
    folders: tuple[str, ...] | None = None


def read_class_list(path: Path, first: int | None = None) -> ClassList:
    r"""Names of classes, from a ``.csv`` or ``.tsv`` with a header or from any other file with a name a line.

    Args:
        path: the file. A table's column of names is called ``name``, ``class``, ``label``, ``class_name`` or so; one
            that is called ``folder`` or ``wnid`` names the folders of the images; and where one numbers the rows, they
            must be in its order.
        first: the number of the first class; where it is None, 0 or 1.

    Raises:
        InfoscopeError: the file cannot be read, is no such table, has rows out of the order of their numbers, or is a
            plain list that begins with a header.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "classes.csv"
        >>> _ = file.write_text('id,name\n0,tench\n1,"church, building"\n')
        >>> read_class_list(file).names
        ('tench', 'church, building')
    """
    if is_sheet(path):
        columns = read_columns(path, {"name": NAMES}, {"folder": FOLDERS, "number": NUMBERS}, _WHAT)
        _check_order(columns, path, first)
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


def _check_order(columns: Columns, path: Path, first: int | None) -> None:
    """Refuse rows that are not in the order of their numbers: names would go to other classes."""
    said = columns.values.get("number", [])
    starts: tuple[int, ...] = (0, 1) if first is None else (first,)
    for row, (line, number) in enumerate(zip(columns.lines, said, strict=False)):
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
