"""One way to read text that people and other programs wrote: any byte order mark, any line ends."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from infoscope.errors import InfoscopeError

# The longer mark first: UTF-32's little-endian one begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class NotTextError(InfoscopeError):
    """A file holds bytes that are no text; whoever knows what it should hold may say so."""


def read_text(path: Path, what: str = "") -> str:
    r"""A text file's content, without its byte order mark and with every line end as ``\n``.

    Text without a mark is UTF-8. Editors on Windows write a mark, UTF-16 and ``\r\n``; read naively, the mark becomes
    part of the first class name or key and changes what it matches, without an error.

    Args:
        path: the file.
        what: what it is, for an error, such as ``the list of features``.

    Raises:
        InfoscopeError: the file is missing, unreadable, not a regular file, or not text in the encoding it declares.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "classes.txt"
        >>> _ = file.write_bytes(codecs.BOM_UTF8 + b"tench\r\nEnglish springer\rcassette player\n")
        >>> read_text(file)
        'tench\nEnglish springer\ncassette player\n'
    """
    try:
        if path.exists() and not path.is_file():
            raise InfoscopeError(f"{_subject(path, what)} is not a regular file; name a text file")
        content = path.read_bytes()
    except OSError as error:
        named = f"{what} {path}" if what else str(path)
        raise InfoscopeError(
            f"cannot read {named}: {error.strerror or error}; check the path and its permissions"
        ) from error
    return decode_text(content, _subject(path, what))


def decode_text(content: bytes, name: str) -> str:
    r"""The text of bytes that somebody's file or an archive's member holds, as `read_text` reads a file.

    Args:
        content: the bytes.
        name: what they are, for an error.

    Raises:
        NotTextError: they are not text in the encoding that they declare.

    Example:
        >>> decode_text("tench\r\n".encode("utf-16"), "7.cls")
        'tench\n'
    """
    mark, encoding = next((entry for entry in _MARKS if content.startswith(entry[0])), (b"", "utf-8"))
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise NotTextError(f"{name} is not text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    if "\0" in text:
        raise NotTextError(f"{name} is not text (it holds NUL characters); save it as UTF-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Files that were joined have the mark of each in the middle.
    return re.sub(r"^\ufeff+", "", text, flags=re.MULTILINE)


def read_lines(path: Path, what: str = "") -> list[str]:
    r"""A text file's lines that are not blank, without white space at either end.

    Only line ends separate lines: a form feed or a Unicode line separator inside a name does not.

    Raises:
        InfoscopeError: as `read_text`.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "classes.txt"
        >>> _ = file.write_bytes(b"tench \r\n\r\ngolf ball")
        >>> read_lines(file)
        ['tench', 'golf ball']
    """
    return [line.strip() for line in read_text(path, what).split("\n") if line.strip()]


def _subject(path: Path, what: str) -> str:
    return f"cannot read {what} {path}: it" if what else str(path)
