"""Any image that Pillow reads, as upright 8-bit RGB."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from infoscope.errors import InfoscopeError

# EXIF orientations that turn a picture on its side.
ON_ITS_SIDE = frozenset({5, 6, 7, 8})
ORIENTATION = 0x0112


class UnreadableImageError(InfoscopeError):
    """One image cannot be used; the message is the reason. A pass skips it, counts it and names it."""


def decode(file: Path | io.BytesIO) -> Image.Image:
    """Read an image file as upright RGB.

    EXIF orientation is applied; grey, palette, CMYK, YCbCr and 16-bit pixels become 8-bit RGB; an alpha channel is
    dropped, as model preprocessors do; of several frames the first is taken.

    Raises:
        UnreadableImageError: the file is missing, truncated, not an image, or has pixels without a known range.
    """
    with _unreadable(), Image.open(file) as image:
        return upright_rgb(image)


def upright_size(file: Path) -> tuple[int, int]:
    """Width and height of an image file as it is decoded; only its header is read.

    Raises:
        UnreadableImageError: the file is missing or not an image.
    """
    with _unreadable(), Image.open(file) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(ORIENTATION) in ON_ITS_SIDE else (width, height)


def readable_rgb(image: Image.Image) -> Image.Image:
    """As `upright_rgb`, for an image whose pixels may still have to be read from a file.

    Raises:
        UnreadableImageError: the file is damaged, or its pixels have no known range.
    """
    with _unreadable():
        return upright_rgb(image)


@contextmanager
def _unreadable() -> Iterator[None]:
    try:
        yield
    except UnreadableImageError:
        raise
    # Pillow's decoders raise nearly anything on damaged bytes: one bad file must not end a long pass.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableImageError(reason) from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """An opened image as upright 8-bit RGB; see `decode`.

    Example:
        >>> upright_rgb(Image.new("L", (4, 2), 7)).getpixel((0, 0))
        (7, 7, 7)
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith(("I", "F")):
        return _wide_grey(image)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image.convert("RGB")


def _wide_grey(image: Image.Image) -> Image.Image:
    """Grey pixels of more than 8 bits, scaled to 8 where their range is known."""
    pixels = np.asarray(image).astype(np.float64)
    low, high = pixels.min(), pixels.max()
    if image.mode.startswith("I;16") or (image.mode == "I" and 255 < high <= 65535 and low >= 0):
        pixels = pixels / 257.0  # 65535 becomes 255
    elif not (low >= 0 and 1 < high <= 255):
        raise UnreadableImageError(
            f"pixels of mode {image.mode} from {low:g} to {high:g} have no known range; save it as 8-bit"
        )
    return Image.fromarray(np.round(pixels).astype(np.uint8)).convert("RGB")
