"""Pictures whose pixels are whole and whose metadata are not."""

from __future__ import annotations

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from infoscope.errors import UnreadableImageError
from infoscope.images.decode import decode, reason_of, upright_size

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def saved(kind, picture=PICTURE, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, content, crc=None):
    summed = zlib.crc32(name + content) if crc is None else crc
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", summed)


def png_with(*chunks, after=False):
    data = saved("PNG")
    place = len(data) - 12 if after else 33  # before the end, or after the header
    return data[:place] + b"".join(chunks) + data[place:]


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


BOMB = zlib.compress(bytes(PngImagePlugin.MAX_TEXT_CHUNK + 1))
DAMAGED_PNG = {
    "an oversized profile": chunk(b"iCCP", b"p\0\0" + BOMB),
    "a profile that does not inflate": chunk(b"iCCP", b"p\0\0" + b"no zlib"),
    "a profile of an unknown compression": chunk(b"iCCP", b"p\0\7" + zlib.compress(b"x")),
    "an oversized text": chunk(b"zTXt", b"k\0\0" + BOMB),
    "an oversized international text": chunk(b"iTXt", b"k\0\1\0\0\0" + BOMB),
    "a text that does not inflate": chunk(b"zTXt", b"k\0\0" + b"no zlib"),
    "a text of an unknown compression": chunk(b"zTXt", b"k\0\7" + b"x"),
    "a text with a wrong checksum": chunk(b"tEXt", b"k\0v", crc=1),
    "EXIF that is none": chunk(b"eXIf", b"garbage"),
    "EXIF with a wrong checksum": chunk(b"eXIf", oriented(1), crc=1),
    "a short resolution": chunk(b"pHYs", b"\0"),
    "a short gamma": chunk(b"gAMA", b"\0"),
    "short primaries": chunk(b"cHRM", b"\0" * 3),
    "a short time": chunk(b"tIME", b"\0"),
    "a short intent": chunk(b"sRGB", b""),
    "a short animation": chunk(b"acTL", b"\0"),
}


@pytest.mark.parametrize("name", DAMAGED_PNG)
@pytest.mark.parametrize("after", [False, True])
def test_png_with(name, after, tmp_path):
    content = png_with(DAMAGED_PNG[name], after=after)
    assert np.array_equal(np.asarray(decode(content)), PIXELS)
    file = tmp_path / "x.png"
    file.write_bytes(content)
    assert np.array_equal(np.asarray(decode(file)), PIXELS)


def test_orientation_outlives_another_chunk_s_damage():
    content = png_with(chunk(b"eXIf", oriented(6)[6:]), DAMAGED_PNG["an oversized profile"])
    assert decode(content).size == (24, 32)


JPEG = saved("JPEG", quality=95)
DAMAGED_JPEG = {
    "EXIF that is none": b"\xff\xe1" + struct.pack(">H", 15) + b"Exif\0\0garbage",
    "EXIF that is cut": b"\xff\xe1" + struct.pack(">H", 18) + b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    "a short profile": b"\xff\xe2" + struct.pack(">H", 14) + b"ICC_PROFILE\0",
    "pictures that are none": b"\xff\xe2" + struct.pack(">H", 14) + b"MPF\0garbage!",
    "a short Photoshop block": b"\xff\xed" + struct.pack(">H", 24) + b"Photoshop 3.0\0" + b"8BIM\x04\x04\x20a",
    "a short Adobe word": b"\xff\xee" + struct.pack(">H", 7) + b"Adobe",
    "XMP that is none": b"\xff\xe1" + struct.pack(">H", 38) + b"http://ns.adobe.com/xap/1.0/\0<x:x tif",
}


@pytest.mark.parametrize("name", DAMAGED_JPEG)
def test_jpeg_with(name):
    content = JPEG[:2] + DAMAGED_JPEG[name] + JPEG[2:]
    assert np.array_equal(np.asarray(decode(content)), np.asarray(Image.open(io.BytesIO(JPEG))))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"])
def test_exif_that_cannot_be_parsed(kind, exif, tmp_path):
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    plain = saved(kind, **options)
    if kind == "TIFF":  # where an EXIF directory is pointed to by a tag
        directory = struct.unpack("<I", plain[4:8])[0]
        count = struct.unpack("<H", plain[directory : directory + 2])[0]
        entries = plain[directory + 2 : directory + 2 + 12 * count]
        pointer = struct.pack("<HHII", 34665, 4, 1, 0xFFFFFF00)
        profile = struct.pack("<HHII", 34675, 7, 0xFFFFFF, 8)
        added = struct.pack("<H", count + 2) + entries + pointer + profile + bytes(4)
        content = plain[:4] + struct.pack("<I", len(plain)) + plain[8:] + added
    elif kind == "JPEG":
        content = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    else:
        content = saved(kind, exif=exif, **options)
    assert np.array_equal(np.asarray(decode(content)), np.asarray(Image.open(io.BytesIO(plain))))
    file = tmp_path / "x"
    file.write_bytes(content)
    assert upright_size(file) == (32, 24)


def test_webp_whose_metadata_are_cut():
    profile = b"p" * 200
    content = saved("WEBP", lossless=True, icc_profile=profile, exif=oriented(1), xmp=b"x" * 99)
    cut = content[:-60]
    assert np.array_equal(np.asarray(decode(cut)), PIXELS)


@pytest.mark.parametrize("name", ["an oversized profile", "a text with a wrong checksum"])
def test_pixels_that_are_cut_are_still_skipped(name):
    content = png_with(DAMAGED_PNG[name])
    with pytest.raises(UnreadableImageError):
        decode(content[: -len(saved("PNG")) // 2])


def test_pixels_with_a_wrong_checksum_are_still_skipped():
    content = bytearray(png_with(DAMAGED_PNG["an oversized text"]))
    content[content.index(b"IDAT") + 40] ^= 1
    with pytest.raises(UnreadableImageError):
        decode(bytes(content))


def test_a_picture_that_was_turned_is_not_turned_again():
    once = decode(saved("JPEG", exif=oriented(6)))
    from infoscope.images.source import ArraySource

    assert ArraySource([once])[0].size == once.size == (24, 32)


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"II*\0", b"GIF89a", b"8BPS", b"BM"],
)
def test_reasons_are_the_same_every_time_and_hold_no_address(content, tmp_path):
    reasons = set()
    (tmp_path / "x.png").write_bytes(content)
    for file in (content, content, tmp_path / "x.png"):
        with pytest.raises(UnreadableImageError) as refused:
            decode(file)
        reasons.add(str(refused.value))
    assert len(reasons) == 1
    assert not re.search("0x[0-9a-f]+|object at|tmp", reasons.pop())


def test_an_address_in_a_reason_is_left_out():
    assert reason_of(ValueError(f"cannot read {object()}\nsecond line")) == "cannot read"
    assert reason_of(OSError(f"{io.BytesIO()}")) == "OSError"
