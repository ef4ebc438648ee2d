"""Picture files without their metadata, for those whose pixels are intact while their metadata are damaged."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
# The chunks that make the pixels. Beside them the bits of a sample are kept, and the orientation, if they are intact.
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_BITS, _ORIENTATION = b"sBIT", b"eXIf"

_JPEG = b"\xff\xd8"
_SCAN, _END, _EXIF, _ADOBE = 0xDA, 0xD9, 0xE1, 0xEE
# JFIF, and Adobe's segment on how colours are coded; all other application segments and comments are dropped.
_PIXEL_SEGMENTS = frozenset({0xE0, _ADOBE})
_OTHER_SEGMENTS = frozenset({*range(0xE0, 0xF0), 0xFE})
# Markers without a length and content.
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})

_WEBP_PIXELS = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
_WEBP_METADATA_FLAGS = 0x20 | 0x08 | 0x04  # a profile, EXIF and XMP


def without_metadata(content: bytes) -> Iterator[bytes]:
    """The same pixels in files with less and less metadata; nothing for an unknown kind of file.

    Args:
        content: a PNG, JPEG or WebP file.

    Yields:
        A file that keeps its orientation, and then one that does not, each where it differs from the one before.
    """
    strip: Callable[[bytes, bool], bytes]
    if content.startswith(_PNG):
        strip = _strip_png
    elif content.startswith(_JPEG):
        strip = _strip_jpeg
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        strip = _strip_webp
    else:
        return
    before = content
    for orientation in (True, False):
        stripped = strip(content, orientation)
        if stripped != before:
            yield stripped
        before = stripped


def _strip_png(content: bytes, orientation: bool) -> bytes:
    chunks = [_PNG]
    start = len(_PNG)
    while start + 8 <= len(content):
        length = int.from_bytes(content[start : start + 4], "big")
        name = content[start + 4 : start + 8]
        stop = start + 12 + length
        chunk = content[start:stop]
        intact = len(chunk) == 12 + length and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        # A damaged chunk of pixels stays, so that the decoder still refuses it.
        if name in _PIXEL_CHUNKS or (intact and (name == _BITS or (orientation and name == _ORIENTATION))):
            chunks.append(chunk)
        start = stop
    return b"".join(chunks)


def _strip_jpeg(content: bytes, orientation: bool) -> bytes:
    segments = [_JPEG]
    start = len(_JPEG)
    while start + 4 <= len(content) and content[start] == 0xFF:
        marker = content[start + 1]
        if marker == 0xFF or marker in _ALONE:
            start += 1 if marker == 0xFF else 2
            continue
        if marker in (_SCAN, _END):
            break
        stop = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        if stop < start + 4:
            break
        adobe_cut = marker == _ADOBE and stop - start < 16
        exif = marker == _EXIF and content[start + 4 : start + 10] == b"Exif\0\0"
        pixels = marker not in _OTHER_SEGMENTS or (marker in _PIXEL_SEGMENTS and not adobe_cut)
        if pixels or (orientation and exif):
            segments.append(content[start:stop])
        start = stop
    return b"".join([*segments, content[start:]])


def _strip_webp(content: bytes, orientation: bool) -> bytes:
    chunks = []
    start = 12
    while start + 8 <= len(content):
        name, length = content[start : start + 4], int.from_bytes(content[start + 4 : start + 8], "little")
        stop = start + 8 + length + length % 2
        chunk = content[start:stop]
        if name == b"VP8X" and len(chunk) >= 9:
            # Flags that promise metadata would have the decoder look for them.
            chunk = chunk[:8] + bytes([chunk[8] & ~_WEBP_METADATA_FLAGS]) + chunk[9:]
        if name in _WEBP_PIXELS:
            chunks.append(chunk)
        start = stop
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body
