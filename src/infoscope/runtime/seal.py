"""Records: the JSON documents that a command writes last, with checksums of the files beside them and of themselves.

Disks, copies over a network and memory flip bits. A table or a JSON file with another digit in it reads as well as
before, so only a checksum tells it from the one that was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import remedy_of, remove_leftovers_of
from infoscope.runtime.json_values import read_json, to_json, write_json
from infoscope.runtime.typed import from_json

Kind = TypeVar("Kind")
# The entries of a record that hold its checksum, and those of the files beside it.
CHECKSUM, FILES = "checksum", "files"


@dataclass(frozen=True)
class FileSum:
    """What a file is recognised by: the SHA-256 of its bytes, and their number."""

    sha256: str
    bytes: int


def write_sealed(
    path: Path,
    record: Mapping[str, Any],
    files: Sequence[str] = (),
    flag: str = "--out",
    known: Mapping[str, FileSum] | None = None,
) -> None:
    """Write a record as JSON, with checksums of files beside it and of itself.

    Args:
        path: the record.
        record: its entries, as `to_json` gives them.
        files: names of the files beside it that it vouches for; they must have been written before.
        flag: the option that names the folder, for the message.
        known: the checksums of further files that it vouches for, where they are not read here.

    Raises:
        InfoscopeError: a file cannot be read, or the record not be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "table").write_text("1 2 3")
        >>> write_sealed(folder / "record.json", {"seed": 0}, ["table"])
        >>> record = read_sealed(folder / "record.json")
        >>> check_files(folder, sums_of(record, folder / "record.json"), "record.json")
        >>> _ = (folder / "table").write_text("1 2 7")
        >>> check_files(folder, sums_of(record, folder / "record.json"), "record.json")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: cannot read table of ...: it is damaged, for its checksum is not the one in
        record.json; restore it, or make it again
    """
    entries = {name: value for name, value in record.items() if name not in (CHECKSUM, FILES)}
    sums = dict(known or {}) | {name: file_sum(path.parent / name) for name in files}
    if sums:
        entries[FILES] = {name: to_json(sums[name]) for name in sorted(sums)}
    write_json(path, entries | {CHECKSUM: checksum_of(entries)}, flag)


def remove_record(path: Path, files: Sequence[str] = ()) -> None:
    """Remove a record, and then files beside it, before they are written again.

    The record goes first, so that a process that is killed meanwhile leaves a folder that does not look whole.

    Args:
        path: the record.
        files: names of the files; what killed processes left of them is removed too.

    Raises:
        InfoscopeError: a file cannot be removed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("record.json", "table", ".table.77.tmp", "other"):
        ...     (folder / name).touch()
        >>> remove_record(folder / "record.json", ["table"])
        >>> [file.name for file in folder.iterdir()]
        ['other']
    """
    paths = [path, *(path.parent / name for name in files)]
    remove_leftovers_of(paths)
    try:
        for file in paths:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise InfoscopeError(f"cannot write {path.parent}: {error.strerror or error}; {remedy_of(error)}") from error


def read_sealed(path: Path, remedy: str = "restore it, or make it again") -> Any:
    """A record, checked against its own checksum where it has one.

    Args:
        path: the record.
        remedy: what to do where it is damaged, for the message.

    Raises:
        InfoscopeError: it cannot be read, or was changed since it was written.
    """
    record = read_json(path)
    check_record(record, path, remedy)
    return record


def read_whole(path: Path, remedy: str, names: Sequence[str] | None = None) -> Any:
    """A record, checked against its checksum, and the files beside it against those that it has of them.

    Args:
        path: the record.
        remedy: what to do where something is damaged, for the message.
        names: of the files; all by default.

    Raises:
        InfoscopeError: the record or a file cannot be read, or was changed since it was written.
    """
    record = read_sealed(path, remedy)
    check_files(path.parent, sums_of(record, path), path.name, names, remedy)
    return record


def read_record(
    kind: type[Kind],
    path: Path,
    what: str,
    remedy: str,
    names: Sequence[str] | None = None,
    *,
    undefined: bool = False,
) -> Kind:
    """A record as a dataclass, checked as `read_whole` does; entries that the dataclass has no field for are ignored.

    Args:
        kind: the dataclass.
        path: the record.
        what: what it is a record of, for the message.
        remedy: what to do where something is damaged, for the message.
        names: of the files beside it to check; all by default.
        undefined: read null as NaN where there should be a number.

    Raises:
        InfoscopeError: the record or a file cannot be read or was changed, or an entry is missing or of another type.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "record.json"
        >>> write_sealed(file, {"sha256": "0a", "bytes": "many"})
        >>> read_record(FileSum, file, "a file", "restore it")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: ...record.json is no record of a file (bytes is 'many', not a whole number);
        restore it
    """
    record = read_whole(path, remedy, names)
    try:
        return from_json(kind, record, other_entries=True, undefined=undefined)
    except ValueError as error:
        raise InfoscopeError(f"{path} is no record of {what} ({error}); {remedy}") from error


def check_record(record: Any, path: Path, remedy: str = "restore it, or make it again") -> None:
    """Refuse a record that was changed since its checksum was taken; one without a checksum is older than checksums.

    Raises:
        InfoscopeError: it was changed since it was written.
    """
    if isinstance(record, dict) and CHECKSUM in record and record[CHECKSUM] != checksum_of(record):
        raise InfoscopeError(
            f"{path} is damaged, for it does not match its own checksum; {remedy}; if you changed it on purpose, take "
            f'the entry "{CHECKSUM}" out of it'
        )


def checksum_of(record: Mapping[str, Any]) -> str:
    """The SHA-256 of a record's entries except the checksum; the order of keys and white space do not matter.

    Example:
        >>> checksum_of({"a": 1, "b": (2, 3)}) == checksum_of({"b": [2, 3], "a": 1, "checksum": "old"})
        True
    """
    entries = {name: value for name, value in record.items() if name != CHECKSUM}
    text = json.dumps(to_json(entries), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_sum(path: Path) -> FileSum:
    """The checksum of a file; reading takes about half a second per GiB.

    Raises:
        InfoscopeError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return FileSum(digest, file.tell())
    except OSError as error:
        raise InfoscopeError(f"cannot read {path}: {error.strerror or error}; check its permissions") from error


def sums_of(record: Any, path: Path) -> dict[str, FileSum] | None:
    """The checksums that a record holds of the files beside it; None in one that is older than checksums.

    Raises:
        InfoscopeError: the entry holds something else.
    """
    if not isinstance(record, dict) or FILES not in record:
        return None
    try:
        sums = from_json(dict[str, FileSum], record[FILES])
        if any(Path(name).name != name for name in sums):
            raise ValueError("a name is a path")
    except ValueError as error:
        raise InfoscopeError(f"{path} is damaged: {FILES}: {error}; restore it, or make it again") from error
    return sums


def check_files(
    folder: Path,
    sums: Mapping[str, FileSum] | None,
    record: str,
    names: Sequence[str] | None = None,
    remedy: str = "restore it, or make it again",
) -> None:
    """Refuse files that are not those a record vouches for; a record without checksums vouches for nothing.

    Args:
        folder: where they are.
        sums: what `sums_of` found.
        record: the record's name, for the message.
        names: those to check; all by default.
        remedy: what to do, for the message.

    Raises:
        InfoscopeError: one is missing, cut short or has other content.
    """
    if sums is None:
        return
    for name in sums if names is None else names:
        what = f"cannot read {name} of {folder}"
        if name not in sums:
            raise InfoscopeError(f"{what}: {record} says nothing of such a file; {remedy}")
        file = folder / name
        if not file.is_file():
            raise InfoscopeError(f"{what}: it is missing; {remedy}")
        size = file.stat().st_size
        if size != sums[name].bytes:
            raise InfoscopeError(f"{what}: it is damaged, for it has {size} bytes of {sums[name].bytes}; {remedy}")
        if file_sum(file) != sums[name]:
            raise InfoscopeError(f"{what}: it is damaged, for its checksum is not the one in {record}; {remedy}")
