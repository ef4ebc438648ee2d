"""MATLAB's files of version 5, whose sizes are held against each other before scipy reads them.

scipy's reader is compiled and trusts what a file says of itself: one wrong byte in a tag can end the whole process.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

# Types of elements, and the bytes of a number of each.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
# Texts in UTF-8, 16 and 32, with the fewest bytes to a letter.
_TEXTS = {16: 1, 17: 2, 18: 4}
# Classes of arrays; those from 6 to 15 are of numbers.
_CELL, _STRUCT, _CHAR, _NUMBERS = 1, 2, 4, range(6, 16)
_COMPLEX = 0x0800
_HEADER = 128
# The files that are read here are a few megabytes, and nested three deep.
_MOST_BYTES, _DEEPEST = 2**28, 16


def load_mat(path: Path) -> dict[str, Any]:
    """The arrays of a file by name, single ones as scipy's ``squeeze_me`` gives them.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file, is damaged, or holds classes of arrays that are not read here.

    Example:
        >>> import tempfile
        >>> from scipy.io import savemat
        >>> path = Path(tempfile.mkdtemp()) / "splits.mat"
        >>> savemat(path, {"train": [3, 1, 4]})
        >>> load_mat(path)["train"].tolist()
        [3, 1, 4]
        >>> _ = path.write_bytes(path.read_bytes()[:-9])
        >>> load_mat(path)
        Traceback (most recent call last):
        ...
        ValueError: an element is longer than what holds it
    """
    with path.open("rb") as file:
        content = file.read()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise ValueError("it is no MATLAB file of version 5")
    place = _HEADER
    while place < len(content):
        kind, body, place = _element(content, place, len(content), order)
        if kind == _COMPRESSED:
            kind, body, _ = _element(unpacked := _decompressed(body), 0, len(unpacked), order)
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} is where an array belongs")
        _check_array(body, order, 0)
    from scipy.io import loadmat

    try:
        found: dict[str, Any] = loadmat(io.BytesIO(content), squeeze_me=True)
    # scipy's reader raises nearly anything on what it does not expect.
    except Exception as error:
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from error
    return found


def _element(content: bytes, place: int, end: int, order: str) -> tuple[int, bytes, int]:
    """Type and content of the element at ``place``, and where the next one begins."""
    if place + 8 > end:
        raise ValueError("an element is cut short")
    first, length = struct.unpack_from(f"{order}2I", content, place)
    if first >> 16:  # four bytes at most, in the tag itself
        if first >> 16 > 4:
            raise ValueError("an element is longer than what holds it")
        return first & 0xFFFF, content[place + 4 : place + 4 + (first >> 16)], place + 8
    if length > end - place - 8:
        raise ValueError("an element is longer than what holds it")
    after = place + 8 + length
    # What is compressed is packed without gaps.
    return first, content[place + 8 : after], after if first == _COMPRESSED else after + -length % 8


def _decompressed(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, _MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"an array is damaged ({error})") from error
    if not unpacker.eof:
        raise ValueError("an array is cut short, or larger than any that is read here")
    return content


def _check_array(body: bytes, order: str, depth: int) -> None:
    """Hold the sizes in an array, and in all that are in it, against each other."""
    if not body:  # an empty array
        return
    if depth > _DEEPEST:
        raise ValueError("its arrays are nested too deeply")
    parts: list[tuple[int, bytes]] = []
    place = 0
    while place < len(body):
        kind, content, place = _element(body, place, len(body), order)
        parts.append((kind, content))
    kinds, contents = [kind for kind, _ in parts], [content for _, content in parts]
    if kinds[:3] != [_UINT32, _INT32, _INT8] or len(contents[0]) != 8 or not 8 <= len(contents[1]) <= 128:
        raise ValueError("an array does not begin with its class, shape and name")
    flags, _ = struct.unpack(f"{order}2I", contents[0])
    if len(contents[1]) % 4:
        raise ValueError("an array has a shape that is none")
    shape = struct.unpack(f"{order}{len(contents[1]) // 4}i", contents[1])
    if min(shape) < 0:
        raise ValueError("an array has a shape that is none")
    count, rest = math.prod(shape), parts[3:]
    kind = flags & 0xFF
    if kind == _STRUCT:
        count *= _count_fields(rest[:2], order)
        rest = rest[2:]
    if kind in (_CELL, _STRUCT):
        if [each for each, _ in rest] != [_MATRIX] * count:
            raise ValueError("an array holds more or fewer entries than its shape says")
        for _, content in rest:
            _check_array(content, order, depth + 1)
    elif kind == _CHAR or kind in _NUMBERS:
        wanted = 2 if flags & _COMPLEX and kind != _CHAR else 1
        if len(rest) != wanted or not all(_fits(each, len(content), count, kind) for each, content in rest):
            raise ValueError("an array holds more or fewer values than its shape says")
    else:
        raise ValueError(f"an array is of class {kind}, which is not read here")


def _count_fields(parts: list[tuple[int, bytes]], order: str) -> int:
    """How many fields a struct has, by the length of a name and all names."""
    if [kind for kind, _ in parts] != [_INT32, _INT8] or len(parts[0][1]) != 4:
        raise ValueError("a struct does not say what its fields are called")
    length: int = struct.unpack(f"{order}i", parts[0][1])[0]
    names = parts[1][1]
    if (
        length < 1
        or len(names) % length
        or any(b"\0" not in names[at : at + length] for at in range(0, len(names), length))
    ):
        raise ValueError("a struct has names of fields that are none")
    return len(names) // length


def _fits(kind: int, length: int, count: int, array: int) -> bool:
    """Whether so many bytes of a type are so many values."""
    if array == _CHAR and kind in _TEXTS:
        return _TEXTS[kind] * count <= length <= 4 * count
    return kind in _SIZES and length == _SIZES[kind] * count
