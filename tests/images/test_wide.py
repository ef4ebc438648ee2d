"""Pixels of more than 8 bits: what their largest value is, and what is told where nobody says."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from infoscope.errors import UnreadableImageError
from infoscope.images.decode import decode
from infoscope.images.wide import DOUBT

RAMP = np.linspace(0, 4095, 48).round().astype(np.uint16).reshape(6, 8)
EXPECTED = np.round(RAMP * (255 / 4095)).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1)
EXPECTED_COLOURS = np.stack([EXPECTED, EXPECTED[::-1], EXPECTED[:, ::-1]], -1)


def png(values, colour_type, sbit=None):
    """A 16-bit PNG; Pillow writes only grey ones."""
    rows, columns = values.shape[:2]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values.reshape(rows, -1))

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", columns, rows, 16, colour_type, 0, 0, 0)
    stated = b"" if sbit is None else chunk(b"sBIT", bytes(sbit))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + stated
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def tiff(values, tags=(), order="<", photometric=None, deflated=False):
    """A 16-bit TIFF of one strip, with further tags as (number, value of 16 bits)."""
    channels = values.shape[2] if values.ndim == 3 else 1
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if deflated else data
    data += bytes(len(data) % 2)
    photometric = photometric if photometric is not None else 2 if channels >= 3 else 1
    bits = dict(tags).get(258, 16)
    entries = {
        256: (3, 1, values.shape[1]),
        257: (3, 1, values.shape[0]),
        258: (3, 1, bits) if channels == 1 else None,
        259: (3, 1, 8 if deflated else 1),
        262: (3, 1, photometric),
        273: (4, 1, 8),
        277: (3, 1, channels),
        278: (3, 1, values.shape[0]),
        279: (4, 1, len(data)),
        **{number: (3, 1, value) for number, value in tags if number != 258},
    }
    if channels == 4 and photometric == 2:
        entries[338] = (3, 1, 2)
    after = 8 + len(data)
    extra = struct.pack(f"{order}{channels}H", *[bits] * channels)
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", after + len(extra)) + data + extra
    content += struct.pack(f"{order}H", len(entries))
    for number, entry in sorted(entries.items()):
        kind, count, value = entry or (3, channels, after)
        shape = "HHIHxx" if entry and kind == 3 else "HHII"
        content += struct.pack(order + shape, number, kind, count, value)
    return content + bytes(4)


def pixels(file):
    opened = decode(file)
    return np.asarray(opened), opened.info.get(DOUBT)


def as_rgb(values):
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, -1)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (lambda: png(RAMP, 0, [12]), EXPECTED),
        (lambda: png(COLOURS, 2, [12, 12, 12]), EXPECTED_COLOURS),
        (lambda: png(np.dstack([RAMP, RAMP]), 4, [12, 12]), EXPECTED),
        (lambda: png(np.dstack([COLOURS, 0 * RAMP + 65535]), 6, [12, 12, 12, 16]), EXPECTED_COLOURS),
        (lambda: png(np.dstack([COLOURS, 0 * RAMP + 4095]), 6, [12, 12, 12, 12]), EXPECTED_COLOURS),
        (lambda: tiff(RAMP, [(281, 4095)]), EXPECTED),
        (lambda: tiff(RAMP, [(281, 4095)], ">"), EXPECTED),
        (lambda: tiff(RAMP, [(341, 4095)]), EXPECTED),
        (lambda: tiff(RAMP, [(281, 3000)]), None),
        (lambda: tiff(COLOURS, [(281, 4095)]), EXPECTED_COLOURS),
        (lambda: tiff(COLOURS, [(281, 4095)], ">"), EXPECTED_COLOURS),
        (lambda: tiff(np.dstack([COLOURS, RAMP]), [(281, 4095)]), EXPECTED_COLOURS),
        (lambda: tiff(COLOURS, [(281, 4095)], deflated=True), EXPECTED_COLOURS),
        (lambda: tiff(COLOURS, [(281, 4095)], ">", deflated=True), EXPECTED_COLOURS),
        (lambda: tiff(RAMP, [(281, 4095)], ">", deflated=True), EXPECTED),
    ],
)
def test_values_are_scaled_by_the_bits_that_the_file_states(file, expected):
    found, doubt = pixels(file())
    assert expected is None or np.array_equal(found, as_rgb(expected))
    assert expected is None or doubt is None
    assert found.max() == 255 or doubt is not None


def test_twelve_bits_to_a_sample():
    packed = np.array([[0, 4095, 2048, 1024]], np.uint16).repeat(2, 0)
    data = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in packed.reshape(-1, 2).tolist())
    file = tiff(packed, [(258, 12)])
    content = bytearray(file)
    content[8 : 8 + len(data)] = data
    found, doubt = pixels(bytes(content))
    assert found[0, :, 0].tolist() == [0, 255, 128, 64]
    assert doubt is None


def test_values_spread_over_sixteen_bits_as_the_standard_asks_are_not_scaled_twice():
    spread = RAMP << 4 | RAMP >> 8
    found, doubt = pixels(png(spread, 0, [12]))
    assert np.array_equal(found, as_rgb(np.round(spread / 257.0).astype(np.uint8)))
    assert doubt is None
    dark = np.minimum(spread, 4080) // 16 * 16
    assert pixels(png(dark, 0, [12]))[0].max() == 16


@pytest.mark.parametrize(
    "file",
    [
        lambda: png(RAMP, 0),
        lambda: png(COLOURS, 2),
        lambda: png(np.dstack([RAMP, RAMP]), 4),
        lambda: png(np.dstack([COLOURS, RAMP]), 6),
        lambda: tiff(RAMP),
        lambda: tiff(RAMP, order=">"),
        lambda: tiff(COLOURS),
        lambda: tiff(COLOURS, order=">"),
        lambda: tiff(np.dstack([COLOURS, RAMP]), photometric=5),
    ],
)
def test_values_without_a_stated_range_are_told_of(file):
    _, doubt = pixels(file())
    assert doubt == (
        "has values up to 4,095 of 65,535 and does not say that they have fewer bits than 16, so it is read as dark"
    )


@pytest.mark.parametrize("factor", [16, 9])
def test_full_values_are_read_as_before_and_nothing_is_told(factor):
    found, doubt = pixels(png(RAMP * factor, 0))
    assert doubt is None
    assert np.array_equal(found, as_rgb(np.round(RAMP * factor / 257.0).astype(np.uint8)))
    found, doubt = pixels(png(COLOURS * factor, 2))
    assert doubt is None
    assert np.array_equal(found, (COLOURS * factor >> 8).astype(np.uint8))


def test_dark_values_whose_file_says_that_they_are_full_are_no_doubt():
    assert pixels(tiff(RAMP, [(281, 65535)]))[1] is None
    assert pixels(png(RAMP, 0, [16]))[1] is None
    assert pixels(png(COLOURS, 2, [16] * 3))[1] is None
    assert pixels(png(0 * RAMP, 0))[1] is None


def test_white_is_zero_is_no_negative():
    found, _ = pixels(tiff(RAMP * 16, photometric=0))
    assert np.array_equal(found, as_rgb(255 - np.round(RAMP * 16 / 257.0).astype(np.uint8)))


def test_fractions_beside_the_scale_of_a_photograph_are_told_of():
    from infoscope.images.decode import upright_rgb

    assert "fractions up to 1.5" in upright_rgb(Image.fromarray(np.full((4, 4), 1.5, np.float32))).info[DOUBT]
    assert DOUBT not in upright_rgb(Image.fromarray(np.full((4, 4), 200, np.float32))).info
    for value in (0.5, 300.0, -1.0, np.nan, np.inf):
        with pytest.raises(UnreadableImageError, match="no known range"):
            upright_rgb(Image.fromarray(np.full((4, 4), value, np.float32)))


@pytest.mark.parametrize("mode", ["La", "RGBa", "RGBX", "1"])
def test_rare_modes(mode):
    from infoscope.images.decode import upright_rgb

    image = Image.new("L", (4, 4), 255).convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode))
    image = image.convert(mode)
    assert upright_rgb(image).mode == "RGB"
    assert np.asarray(upright_rgb(image)).max() == 255


@pytest.mark.parametrize("largest", [1023, 4095])
def test_portable_maps_are_scaled_by_their_own_maximum(largest):
    values = np.linspace(0, largest, 48).round().astype(">u2").reshape(6, 8)
    grey = b"P5 8 6 %d\n" % largest + values.tobytes()
    found, doubt = pixels(grey)
    assert np.abs(found[..., 0].astype(int) - np.round(values * (255 / largest))).max() <= 1
    assert doubt is None
