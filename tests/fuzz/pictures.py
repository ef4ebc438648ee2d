"""Mutations of pictures: the chunks of a PNG and the segments of a JPEG."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

from fuzz.mutations import EXTREMES, Apply, mutation

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
Chunk = tuple[bytes, bytes]


def read_png(data: bytes) -> list[Chunk] | None:
    """Type and content of each chunk; None for anything else."""
    if not data.startswith(_SIGNATURE):
        return None
    chunks, place = [], len(_SIGNATURE)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return chunks


def write_png(chunks: list[Chunk]) -> bytes:
    """A PNG of chunks, with the checksums that belong to them."""
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _on_chunks(change: Callable[[list[Chunk], random.Random], list[Chunk] | None]) -> Apply:
    def apply(data: bytes, rng: random.Random) -> bytes | None:
        chunks = read_png(data)
        changed = change(chunks, rng) if chunks else None
        return None if changed is None else write_png(changed)

    return apply


@mutation("png.header", honest=True)
@_on_chunks
def _header(chunks: list[Chunk], rng: random.Random) -> list[Chunk]:
    """Another size, depth or kind of pixels than there are."""
    width, height, depth, colour, packing, filters, interlace = struct.unpack(">2I5B", chunks[0][1])
    what = rng.randrange(7)
    if what < 2:
        value = rng.choice([0, 1, width + 1, 2 * width, *EXTREMES]) % 2**32
        width, height = (value, height) if what == 0 else (width, value)
    elif what == 2:
        width = height = rng.choice((20_000, 60_000, 2**30))
    elif what == 3:
        depth = rng.choice((0, 1, 2, 4, 8, 16, 32))
    elif what == 4:
        colour = rng.choice((0, 2, 3, 4, 6, 7))
    elif what == 5:
        packing, filters = rng.choice((0, 1)), rng.choice((1, 255))
    else:
        interlace = rng.choice((1, 2, 255))
    return [(b"IHDR", struct.pack(">2I5B", width, height, depth, colour, packing, filters, interlace)), *chunks[1:]]


@mutation("png.chunk removed", honest=True)
@_on_chunks
def _removed(chunks: list[Chunk], rng: random.Random) -> list[Chunk]:
    chunks.pop(rng.randrange(len(chunks)))
    return chunks


@mutation("png.chunk repeated", honest=True)
@_on_chunks
def _repeated(chunks: list[Chunk], rng: random.Random) -> list[Chunk]:
    at = rng.randrange(len(chunks))
    return [*chunks[: at + 1], *chunks[at:]]


@mutation("png.pixels", honest=True)
@_on_chunks
def _pixels(chunks: list[Chunk], rng: random.Random) -> list[Chunk]:
    """Damaged pixels under a checksum that is right."""
    at = next(place for place, (kind, _) in enumerate(chunks) if kind == b"IDAT")
    content = bytearray(chunks[at][1])
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return [*chunks[:at], (b"IDAT", bytes(content)), *chunks[at + 1 :]]


@mutation("png.remark", honest=True, expected="equal")
@_on_chunks
def _remark(chunks: list[Chunk], rng: random.Random) -> list[Chunk]:
    """What is beside the pixels and damaged or too large; the pixels are whole, so the picture is."""
    bomb = b"x\0\0" + zlib.compress(bytes(30_000_000), 9)
    odd = rng.choice([
        (b"eXIf", rng.randbytes(40)), (b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1"), (b"iCCP", bomb),
        (b"zTXt", bomb),
        (b"tEXt", b"no separator"), (b"iTXt", b"x\0\1\0\0\0" + b"no zlib"), (b"iCCP", b"name\0\0no zlib"), (b"pHYs",
        b"\0"),
        (b"gAMA", b""), (b"tIME", b"\xff" * 3), (b"prVt", rng.randbytes(9)), (b"tEXt", b"Comment\0" + b"x" * 2_000_000),
        (b"eXIf", b""), (b"cHRM", b"\0"), (b"sRGB", b""),
    ])  # fmt: skip
    return [chunks[0], odd, *chunks[1:]]


@mutation("png.turned", honest=True)
@_on_chunks
def _turned(chunks: list[Chunk], rng: random.Random) -> list[Chunk]:
    """An orientation, known or not."""
    entry = struct.pack(">HHIHH", 0x0112, rng.choice((3, 3, 3, 2, 99)), rng.choice((1, 1, 2**31)), rng.randrange(12), 0)
    return [chunks[0], (b"eXIf", b"MM\0*\0\0\0\x08\0\1" + entry + b"\0\0\0\0"), *chunks[1:]]


@mutation("jpeg.segment", honest=True)
def _segment(data: bytes, rng: random.Random) -> bytes | None:
    """A segment that was not there: EXIF, profiles and remarks, whole or damaged."""
    if data[:2] != b"\xff\xd8":
        return None
    content = rng.choice([
        b"Exif\0\0" + rng.randbytes(30),
        b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0" + bytes((rng.randrange(10),)) + b"\0\0",
        b"ICC_PROFILE\0\1\1" + rng.randbytes(9), b"ICC_PROFILE\0\7\2",
        b"Adobe\0\x64\0\0\0\0" + bytes((rng.randrange(4),)),
        b"JFIF\0\1", b"", b"MPF\0" + rng.randbytes(20), b"http://ns.adobe.com/xap/1.0/\0<x",
        b"Photoshop 3.0\x008BIM\4\4",
    ])  # fmt: skip
    marker = rng.choice((0xE0, 0xE1, 0xE1, 0xE2, 0xED, 0xEE, 0xFE))
    return data[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content + data[2:]


@mutation("jpeg.size", honest=True)
def _jpeg_size(data: bytes, rng: random.Random) -> bytes | None:
    """Another size than the picture has."""
    place = data.find(b"\xff\xc0")
    if place < 0:
        return None
    size = struct.pack(">2H", rng.choice((0, 1, 17, 65535)), rng.choice((0, 1, 17, 65535)))
    return data[: place + 5] + size + data[place + 9 :]
