"""The files in a tar, found by its headers alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, NamedTuple

from infoscope.errors import InfoscopeError

BLOCK = 512
REGULAR = frozenset(b"0\x007")
# Links, devices, folders and pipes have no data by the standard, whatever size their header states.
WITHOUT_DATA = frozenset(b"123456")
ABOUT_NEXT = frozenset(b"xL")  # pax records, and GNU's long names
NOT_ABOUT_FILES = frozenset(b"gK")  # pax records for the whole tar, and the long targets of links
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Member(NamedTuple):
    """A regular file in a tar: its name as stored, the byte at which its content begins, and how many there are."""

    name: bytes
    offset: int
    size: int


# Far above any name or time stamp; an extended header is read into memory at once.
LARGEST_HEADER = 2**20
LONGEST_LENGTH = 20  # of a pax record's length: digits and the space after them
# The pax records that matter here: a file's name and size, and whether it has gaps.
USED_RECORDS = (b"path", b"size", b"GNU.sparse")


class _DamagedError(Exception):
    pass


def tar_members(path: Path) -> Iterator[Member]:
    """The regular files of a tar, in its order; their content is not read.

    The formats of POSIX (ustar and pax), GNU and version 7 are read. The standard library's ``tarfile`` ends silently
    at a damaged header, as if the tar ended there; this reader refuses such a tar, and one that lacks the mark of its
    end because it was cut short between two files.

    Raises:
        InfoscopeError: the file cannot be read, is compressed, is not a tar, or is cut short or damaged.

    Example:
        >>> import io, tarfile, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "x.tar"
        >>> with tarfile.open(file, "w") as tar:
        ...     header = tarfile.TarInfo("a/1.jpg")
        ...     header.size = 3
        ...     tar.addfile(header, io.BytesIO(b"abc"))
        >>> list(tar_members(file))
        [Member(name=b'a/1.jpg', offset=512, size=3)]
    """
    if path.exists() and not path.is_file():
        raise InfoscopeError(f"{path} is a folder, pipe or device, no tar file; name files")
    try:
        # One page holds a header with its extension, and the small files between two pictures.
        with path.open("rb", buffering=0) as raw, BufferedReader(raw, 4096) as file:
            if hasattr(os, "posix_fadvise"):
                # Reading ahead would fetch the content that is skipped.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            yield from _members(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise InfoscopeError(
            f"cannot read {path}: {error.strerror or error}; check its permissions, or fetch it again"
        ) from error
    except _DamagedError as error:
        raise InfoscopeError(f"{path} {error}; fetch it again") from error


def _members(file: BinaryIO, end: int) -> Iterator[Member]:
    position = 0
    extended: dict[bytes, bytes] = {}
    while True:
        header = _header(file, position)
        if header is None:
            return
        data, kind = position + BLOCK, header[156]
        about_next = kind in ABOUT_NEXT
        size = _number(header[124:136], 8)
        if b"size" in extended and not about_next:
            size = _number(extended[b"size"], 10)
        length = 0 if kind in WITHOUT_DATA else size
        name = extended.get(b"path") or _name(header)
        if data + length > end:
            raise _DamagedError(
                f"is cut short: {name.decode('utf-8', 'backslashreplace')} needs {data + length - end} bytes more; "
                "copy the shard again"
            )
        position = data + -(-length // BLOCK) * BLOCK
        if about_next:
            if size > LARGEST_HEADER:
                raise _DamagedError(f"is damaged: a header of {size} bytes is larger than any name")
            content = file.read(size)
            extended |= _records(content) if kind in b"x" else {b"path": content.split(b"\0", 1)[0]}
        elif kind not in NOT_ABOUT_FILES:
            if kind in b"S" or any(key.startswith(b"GNU.sparse") for key in extended):
                raise _DamagedError("holds a sparse file, whose content has gaps; pack it without --sparse")
            # Old tars mark a folder by the slash alone.
            if kind in REGULAR and not name.endswith(b"/"):
                yield Member(name, data, size)
            extended = {}


def _header(file: BinaryIO, position: int) -> bytes | None:
    """The header at ``position``, checked; None for the mark of the end."""
    file.seek(position)
    header = file.read(BLOCK)
    if not position:
        if not header:
            raise _DamagedError("is empty")
        for magic, name in COMPRESSED.items():
            if header.startswith(magic):
                raise _DamagedError(
                    f"is compressed ({name}): its images cannot be found one by one; unpack it to a .tar"
                )
    elif len(header) < BLOCK:
        raise _DamagedError("is cut short: the mark of a tar's end is missing; copy the shard again")
    if len(header) == BLOCK and not any(header):
        return None
    # The checksum is computed as if its own field held spaces.
    computed = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    try:
        intact = len(header) == BLOCK and _number(header[148:156], 8) == computed
    except _DamagedError:
        intact = False
    if not intact:
        raise _DamagedError(f"is damaged at byte {position}" if position else "is not a tar file")
    return header


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    # Only POSIX has the beginning of a long name here; GNU's own format uses the field for something else.
    prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _number(field: bytes, base: int) -> int:
    """A number in digits or, where the first bit is set, in binary, which GNU tar writes for numbers too large."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    try:
        number = int(field.split(b"\0", 1)[0].strip() or b"0", base)
    except ValueError:
        number = -1
    if number < 0:
        raise _DamagedError("is damaged: a header holds no number where a size belongs")
    return number


def _records(content: bytes) -> dict[bytes, bytes]:
    """Those of a pax header's ``length key=value`` lines that are used."""
    records = {}
    start, end = 0, len(content.rstrip(b"\0"))
    # By position: cutting off each line would copy the rest of the header once per line.
    while start < end:
        space = content.find(b" ", start, start + LONGEST_LENGTH)
        stop = start + _number(content[start:space], 10) if space > start else 0
        equals = content.find(b"=", space, stop)
        if not space < equals < stop <= end or content[stop - 1 : stop] != b"\n":
            raise _DamagedError("is damaged: a pax header is not made of lines of key=value")
        key = content[space + 1 : equals]
        if key.startswith(USED_RECORDS):
            records[key] = content[equals + 1 : stop - 1]
        start = stop
    return records
