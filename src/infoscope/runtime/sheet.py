"""Tables that people and spreadsheets wrote: ``.csv`` and ``.tsv``, by the names in their header."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from infoscope.errors import InfoscopeError, either
from infoscope.runtime.text import read_text

# What separates the cells; None is found out. Spreadsheets write a semicolon wherever numbers have a decimal comma.
_SEPARATORS: dict[str, str | None] = {".csv": None, ".tsv": "\t"}
_TRIED = (",", ";", "\t")
# The line by which Excel is told what separates cells.
_SAID = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_QUOTED = re.compile(r' *"([^"]*(?:""[^"]*)*)" *')


@dataclass(frozen=True)
class Columns:
    """Some columns of a table, ``[row]`` each.

    Attributes:
        values: the cells by what was asked for, without white space at either end; no cell is empty.
        lines: the line of the file that each row ends on, from 1.
    """

    values: dict[str, list[str]]
    lines: list[int]


def is_sheet(path: Path) -> bool:
    """Whether a file's name says that it is a table.

    Example:
        >>> [is_sheet(Path(name)) for name in ("classes.csv", "classes.TSV", "classes.txt")]
        [True, True, False]
    """
    return path.suffix.lower() in _SEPARATORS


def read_columns(
    path: Path,
    needed: Mapping[str, Collection[str]],
    optional: Mapping[str, Collection[str]] | None = None,
    what: str = "",
    prefer_first: bool = False,
) -> Columns:
    r"""Columns of a table by the names in its header; what stands in other columns is left alone.

    Cells may be quoted, and then hold separators. Capitals, and whether words are joined by a blank, a hyphen or an
    underscore, do not matter in a header. Rows without any cell are no rows.

    Args:
        path: a ``.csv``, separated by commas, semicolons or tabs (which is found by the header, or said by Excel's line
            ``sep=;``), or a ``.tsv``.
        needed: by what a column is for, the names it may have.
        optional: the same of columns that may be missing, which are then missing in the result.
        what: what the file is, for an error.
        prefer_first: of several columns that may be meant, the one whose name comes first counts, and a column counts
            for one purpose only; otherwise they are refused.

    Raises:
        InfoscopeError: the file is no such table: it cannot be read, it has no header with each needed column, two
            columns may be meant, or a row has more or fewer cells than the header or lacks one that is needed.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "classes.csv"
        >>> _ = file.write_text('Folder;Name\nn02112018;"Pomeranian; Spitz"\n')
        >>> read_columns(file, {"name": ("name", "class")}).values
        {'name': ['Pomeranian; Spitz']}
        >>> read_columns(file, {"label": ("label",)})
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: ...classes.csv has no column for the label in its header (Folder, Name): ...
    """
    roles = dict(needed) | dict(optional or {})
    header, rows = _parsed(path, {name for names in roles.values() for name in names}, what)
    columns: dict[str, int] = {}
    for role, names in roles.items():
        matching = [number for number, cell in enumerate(header) if plain_name(cell) in names]
        if prefer_first:
            matching = [number for number in matching if number not in columns.values()]
            first = next(
                (name for name in names if any(plain_name(header[number]) == name for number in matching)), None
            )
            matching = [number for number in matching if plain_name(header[number]) == first]
        if len(matching) > 1:
            several = ", ".join(header[number] for number in matching)
            raise InfoscopeError(
                f"{path} has several columns that may be the {role}: {several}; keep one of them, or rename the others"
            )
        if matching:
            columns[role] = matching[0]
        elif role in needed:
            raise InfoscopeError(
                f"{path} has no column for the {role} in its header ({_few(header)}): call the column "
                f"{either(list(names))}, in the first line"
            )
    values: dict[str, list[str]] = {role: [] for role in columns}
    for line, cells in rows:
        for role, column in columns.items():
            cell = cells[column]
            if not cell or "\n" in cell:
                raise InfoscopeError(
                    f"line {line} of {path} has {'a line break in' if cell else 'no'} {header[column]}; "
                    "complete it or take the row out"
                )
            values[role].append(cell)
    return Columns(values, [line for line, _ in rows])


def reads_like_a_header(line: str, alone: Collection[str], among: Collection[str] = ()) -> bool:
    """Whether the first line of a plain list is the header of a table, or Excel's line that says what separates cells.

    Args:
        line: the line.
        alone: names of columns that are a header even where there is no other column.
        among: names of columns that are one beside others.

    Example:
        >>> [reads_like_a_header(line, ["name"], ["id"]) for line in ("id,nom", "Name", "sep=;", "id", "crane, bird")]
        [True, True, True, False, False]
    """
    if _SAID.fullmatch(line.strip()):
        return True
    cells = [plain_name(cell.strip(' "')) for cell in re.split(r"[,;\t]", line)]
    return any(cell in alone or (len(cells) > 1 and cell in among) for cell in cells)


def plain_name(cell: str) -> str:
    """A column's name as it is compared.

    Example:
        >>> plain_name(" Class Name "), plain_name("file-name")
        ('class_name', 'file_name')
    """
    return re.sub(r"[\s_-]+", "_", cell.strip().lower())


def _parsed(path: Path, known: Collection[str], what: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the rows that hold anything with the lines they end on."""
    text = read_text(path, what)
    first, _, rest = text.lstrip("\n").partition("\n")
    above = len(text) - len(text.lstrip("\n"))
    text = text.lstrip("\n")
    if said := _SAID.fullmatch(first.strip()):
        separator, text, above = said[1], rest, above + 1
    else:
        separator = _SEPARATORS[path.suffix.lower()] or _separator(first, known, path)
    rows = [(line, cells) for line, cells in _rows(text, separator, path, above + 1) if any(cells)]
    if not rows:
        raise InfoscopeError(f"{path} is empty; write a header, and a row a line below it")
    header = rows[0][1]
    while header and not header[-1]:  # spreadsheets write cells that were cleared
        header.pop()
    for line, cells in rows[1:]:
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if len(cells) != len(header):
            raise InfoscopeError(
                f"line {line} of {path} has {len(cells)} cells, and the header has {len(header)} ({_few(header)}): "
                f"complete it, or quote what holds a {_SPOKEN.get(separator, repr(separator))}"
            )
    return header, rows[1:]


_SPOKEN = {",": "comma", ";": "semicolon", "\t": "tab"}


def _separator(first: str, known: Collection[str], path: Path) -> str:
    """What separates the cells of a header: what sets a known name apart, and else what divides it at all."""
    dividing = {separator: cells for separator in _TRIED if len(cells := _cells(first, separator)) > 1}
    naming = [name for name, cells in dividing.items() if any(plain_name(cell) in known for cell in cells)]
    found = naming or list(dividing) or [","]
    if len(found) > 1:
        raise InfoscopeError(
            f"what separates the cells of {path} is not clear from its header, {_cut(first)!r}: write the line sep=, "
            "or sep=; above it"
        )
    return found[0]


def _cells(line: str, separator: str) -> list[str]:
    """The cells of a header, if it were separated so; none where its quotes speak against it."""
    try:
        return next((cells for _, cells in _rows(line, separator, Path(), 1)), [])
    except InfoscopeError:
        return []


def _rows(text: str, separator: str, path: Path, line: int) -> Iterator[tuple[int, list[str]]]:
    """The rows with the lines they end on, the first of which is given, by RFC 4180; blanks beside quotes do not count.

    Not by the standard library's reader: it either joins what follows a closing quote to the cell, and takes the rest
    of the file for one where a quote is not closed, or refuses the blanks that editors leave.
    """
    if separator.isalnum() or separator in '" \n':
        raise InfoscopeError(
            f"{path} cannot be read as a table: nothing is separated by {separator!r}; mend its first line"
        )
    plain = re.compile(rf"[^{re.escape(separator)}\n]*")
    at, cells = 0, list[str]()
    while at <= len(text):
        quoted = _QUOTED.match(text, at)
        found = quoted or plain.match(text, at)
        assert found is not None
        end = found.end()
        if (end < len(text) and text[end] not in (separator, "\n")) or (not quoted and found[0].lstrip(" ")[:1] == '"'):
            raise InfoscopeError(
                f"{path} cannot be read as a table: a quote on line {line} is not closed, or text follows where it is; "
                "close it, and write a quote within quotes twice"
            )
        cells.append((quoted[1].replace('""', '"') if quoted else found[0]).strip())
        line += found[0].count("\n")
        if end == len(text) or text[end] == "\n":
            yield line, cells
            cells, line = [], line + 1
        at = end + 1


def _few(header: list[str]) -> str:
    shown = ", ".join(_cut(cell) or "(no name)" for cell in header[:8])
    return shown + (f" and {len(header) - 8} more" if len(header) > 8 else "")


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
