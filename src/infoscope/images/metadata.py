"""Picture files without what is not pixels, for those whose pixels are whole and whose metadata are damaged."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
# The chunks that make the pixels, and their bits; orientation is kept where its chunk is whole.
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_BITS, _ORIENTATION = b"sBIT", b"eXIf"

_JPEG = b"\xff\xd8"
_SCAN, _END, _EXIF, _ADOBE = 0xDA, 0xD9, 0xE1, 0xEE
# JFIF, and Adobe's word on how colours are coded; all other application segments and comments go.
_PIXEL_SEGMENTS = frozenset({0xE0, _ADOBE})
_OTHER_SEGMENTS = frozenset({*range(0xE0, 0xF0), 0xFE})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})

_WEBP_PIXELS = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
_WEBP_METADATA_FLAGS = 0x20 | 0x08 | 0x04  # a profile, EXIF and XMP


def without_metadata(content: bytes) -> Iterator[bytes]:
    """The same pixels in files with fewer and fewer metadata; nothing for a kind of file that is not known.

    Args:
        content: a PNG, JPEG or WebP file.

    Yields:
        A file with its orientation, where that can be told apart, and then one without.
    """
    strip = _stripper(content)
    if strip is None:
        return
    before = content
    for orientation in (True, False):
        stripped = strip(content, orientation)
        if stripped != before:
            yield stripped
        before = stripped


def _stripper(content: bytes) -> Callable[[bytes, bool], bytes] | None:
    if content.startswith(_PNG):
        return _png
    if content.startswith(_JPEG):
        return _jpeg
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _webp
    return None


def _png(content: bytes, orientation: bool) -> bytes:
    kept = [_PNG]
    place = len(_PNG)
    while place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        name = content[place + 4 : place + 8]
        stop = place + 12 + length
        chunk = content[place:stop]
        intact = len(chunk) == 12 + length and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        # A damaged chunk of pixels stays, so that it is found to be damaged.
        if name in _PIXEL_CHUNKS or (intact and (name == _BITS or (orientation and name == _ORIENTATION))):
            kept.append(chunk)
        place = stop
    return b"".join(kept)


def _jpeg(content: bytes, orientation: bool) -> bytes:
    kept = [_JPEG]
    place = len(_JPEG)
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        if marker in (_SCAN, _END):
            break
        stop = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if stop < place + 4:
            break
        adobe_cut = marker == _ADOBE and stop - place < 16
        exif = marker == _EXIF and content[place + 4 : place + 10] == b"Exif\0\0"
        pixels = marker not in _OTHER_SEGMENTS or (marker in _PIXEL_SEGMENTS and not adobe_cut)
        if pixels or (orientation and exif):
            kept.append(content[place:stop])
        place = stop
    return b"".join([*kept, content[place:]])


def _webp(content: bytes, orientation: bool) -> bytes:
    kept = []
    place = 12
    while place + 8 <= len(content):
        name, length = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        stop = place + 8 + length + length % 2
        chunk = content[place:stop]
        if name == b"VP8X" and len(chunk) >= 9:
            flags = chunk[8] & ~_WEBP_METADATA_FLAGS
            chunk = chunk[:8] + bytes([flags]) + chunk[9:]
        if name in _WEBP_PIXELS:
            kept.append(chunk)
        place = stop
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + len(body).to_bytes(4, "little") + body
