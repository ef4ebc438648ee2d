import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from infoscope.errors import UnreadableImageError
from infoscope.images.decode import decode, upright_rgb


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GRADIENT = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8) * 5)


def test_grey_becomes_three_equal_channels():
    pixels = np.asarray(decode(encoded(GRADIENT)))
    assert pixels.shape == (6, 8, 3)
    assert np.array_equal(pixels, np.repeat(np.asarray(GRADIENT)[..., None], 3, 2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"])
def test_every_mode_becomes_rgb(mode):
    colour = Image.new("RGB", (8, 6), (200, 120, 40))
    kind = "TIFF" if mode in ("CMYK", "YCbCr", "LAB") else "PNG"
    image = colour.convert(mode) if mode not in ("LAB", "HSV") else Image.new(mode, (8, 6), (128, 128, 128))
    opened = upright_rgb(image) if mode == "HSV" else decode(encoded(image, kind))
    assert opened.mode == "RGB"
    assert opened.size == (8, 6)


def test_palette_and_cmyk_keep_their_colour():
    colour = Image.new("RGB", (8, 6), (200, 120, 40))
    assert decode(encoded(colour.convert("P", palette=Image.Palette.ADAPTIVE))).getpixel((3, 3)) == (200, 120, 40)
    cmyk = decode(encoded(colour.convert("CMYK"), "JPEG", quality=100)).getpixel((3, 3))
    assert np.abs(np.subtract(cmyk, (200, 120, 40))).max() <= 3


def test_transparent_palette_needs_no_warning():
    image = Image.new("P", (8, 6), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(encoded(image, transparency=b"\x00\xff")).getpixel((0, 0)) == (10, 20, 30)


def test_alpha_is_dropped():
    assert decode(encoded(Image.new("RGBA", (4, 4), (9, 8, 7, 0)))).getpixel((0, 0)) == (9, 8, 7)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    levels = np.array([[0, 257 * 100, 65535]], np.uint16).repeat(2, 0)
    pixels = np.asarray(decode(encoded(Image.fromarray(levels))))
    assert pixels[0, :, 0].tolist() == [0, 100, 255]


def test_float_pixels_of_unknown_range_are_refused():
    with pytest.raises(UnreadableImageError, match="no known range"):
        upright_rgb(Image.fromarray(np.full((4, 4), 0.5, np.float32)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    image = Image.new("RGB", (16, 8))
    image.paste((255, 0, 0), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = decode(encoded(image, "PNG", exif=exif))
    # Where the red corner of the stored picture belongs, by the EXIF standard's table.
    corner = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}[orientation]
    assert opened.size == ((16, 8) if orientation < 5 else (8, 16))
    x = 1 if corner[1] == "l" else opened.width - 2
    y = 1 if corner[0] == "t" else opened.height - 2
    assert opened.getpixel((x, y)) == (255, 0, 0)
    assert opened.getpixel((opened.width - 1 - x, opened.height - 1 - y)) == (0, 0, 0)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    opened = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert opened.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_truncated_files_are_unreadable(kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(UnreadableImageError):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff", b"GIF89a"])
def test_garbage_is_unreadable(data):
    with pytest.raises(UnreadableImageError):
        decode(data)


def test_a_decompression_bomb_is_unreadable():
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(UnreadableImageError):
        decode(data)


def test_missing_file(tmp_path):
    with pytest.raises(UnreadableImageError, match="No such file"):
        decode(tmp_path / "gone.png")
