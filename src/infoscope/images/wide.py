"""Pixels of more than 8 bits, as 8: what their largest value is, and a word where nobody says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from infoscope.errors import UnreadableImageError

DOUBT = "infoscope.doubt"
"""Where a decoded picture keeps what is to be told of its values, in ``Image.info``."""

FULL = 65535
# Below it a bit of the 16 is unused: the picture is dark, or its values have fewer bits than the file has room for.
HALF = 32768

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_MAX_SAMPLE, _S_MAX_SAMPLE = 281, 341
_SIGNATURE = 8  # of a PNG, in bytes
_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def has_wide_pixels(image: Image.Image) -> bool:
    """Whether an opened picture stores more than 8 bits a value.

    Example:
        >>> has_wide_pixels(Image.new("I;16", (2, 2))), has_wide_pixels(Image.new("RGB", (2, 2)))
        (True, False)
    """
    return image.mode.startswith(("I", "F")) or ";16" in _raw_mode(image)


def stated_largest(image: Image.Image) -> float | None:
    """The largest value that a picture's file says its pixels can have; None where it does not say.

    A TIFF says it by fewer bits to a sample than 16, or by its largest sample, which is rounded up to whole bits since
    some writers store the largest there is; a PNG by its ``sBIT`` chunk. Call it before the pixels are loaded.
    """
    if image.format == "PNG":
        bits = _png_bits(getattr(image, "fp", None))
        return None if bits is None else float(2**bits - 1)
    tags = getattr(image, "tag_v2", None)
    if image.format != "TIFF" or tags is None:
        return None
    for tag in (_MAX_SAMPLE, _S_MAX_SAMPLE):
        largest = _largest(tags.get(tag))
        if largest is not None:
            return largest if image.mode == "F" else float(2 ** int(largest).bit_length() - 1)
    stored = _largest(tags.get(_BITS_PER_SAMPLE))
    return float(2 ** int(stored) - 1) if stored is not None and 8 < stored < 16 else None


def eight_bits(
    image: Image.Image, largest: float | None, again: Callable[[], Image.Image] | None
) -> tuple[Image.Image, str | None]:
    """A picture of wide pixels with 8 bits a value.

    Args:
        image: the picture, loaded.
        largest: what `stated_largest` gave before it was.
        again: opens the picture anew, since Pillow keeps only the upper halves of 16-bit colours; None where it cannot
            be opened again.

    Returns:
        The picture, grey ones in mode ``L``; and what is to be told of it, None where its range is known or evident.

    Raises:
        UnreadableImageError: the pixels have no known range.
    """
    if image.mode.startswith(("I", "F")):
        return _grey(image, largest)
    upper = np.asarray(image)
    colours = _colours(upper, image)
    if not colours.any() or colours.max() >= HALF >> 8:
        return image, None
    lower = None if again is None else _lower_halves(again)
    if lower is None or lower.shape != upper.shape:
        return image, None if largest == FULL else _dark(int(colours.max()) << 8 | 255)
    values = upper.astype(np.uint16) << 8 | lower
    found = _colours(values, image)
    if largest is None or largest == FULL or not _unscaled(found, largest, image):
        return image, None if largest == FULL else _dark(int(found.max()))
    scaled = np.round(np.minimum(values, largest) * (255 / largest)).astype(np.uint8)
    return Image.fromarray(scaled, image.mode), None


def _grey(image: Image.Image, largest: float | None) -> tuple[Image.Image, str | None]:
    pixels = np.asarray(image).astype(np.float64)
    low, high = pixels.min(), pixels.max()
    doubt = None
    sixteen = image.mode.startswith("I;16")
    tags = getattr(image, "tag_v2", {})
    if largest is not None and largest != FULL and low >= 0 and _unscaled(pixels, largest, image):
        pixels = pixels * (255 / largest)
        top = 255.0
    elif sixteen or (image.mode == "I" and 255 < high <= FULL and low >= 0):
        pixels = pixels / 257.0  # 65535 becomes 255
        top = 255.0
        if 0 < high < HALF and largest != FULL:
            doubt = _dark(int(high))
    elif low >= 0 and 1 < high <= 255:
        top = 255.0
        if image.mode == "F" and high < 128:
            doubt = f"has fractions up to {high:g} that are read on the scale of 0 to 255"
    else:
        raise UnreadableImageError(
            f"pixels of mode {image.mode} from {low:g} to {high:g} have no known range; save it as 8-bit"
        )
    if sixteen and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = top - pixels  # which Pillow does for 8 bits alone
        doubt = None
    return Image.fromarray(np.round(pixels).astype(np.uint8)), doubt


def _dark(high: int) -> str:
    return (
        f"has values up to {high:,} of 65,535 and does not say that they have fewer bits than 16, so it is read as dark"
    )


def _unscaled(values: Shaped[np.ndarray, "*any"], largest: float, image: Image.Image) -> bool:
    """Whether values lie on the stated scale, and were not spread over all 16 bits as the PNG standard asks.

    Spreading moves the bits up, so what lies within the stated scale and was spread is a multiple of the step.
    """
    if not values.max() <= largest:
        return False
    if image.format != "PNG" or not values.any():
        return True
    return bool((np.asarray(values).astype(np.int64) % (65536 // (int(largest) + 1))).any())


def _colours(values: Shaped[np.ndarray, "row column *channel"], image: Image.Image) -> Shaped[np.ndarray, "*any"]:
    """Values without those of an alpha channel."""
    return values[..., :-1] if image.mode in ("RGBA", "LA", "RGBX") and values.ndim == 3 else values


def _lower_halves(again: Callable[[], Image.Image]) -> Shaped[np.ndarray, "row column channel"] | None:
    """The lower 8 bits of 16-bit colours, by Pillow reading each pair of bytes in the other order."""
    try:
        with again() as image:
            raw = _raw_mode(image)
            if raw == "LA;16B":
                # Four bytes a pixel: grey and alpha, the upper half first.
                _reread(image, "RGBA")
                grey_alpha = np.asarray(image)
                grey, alpha = grey_alpha[..., 1], grey_alpha[..., 3]
                return np.stack([grey, grey, grey, alpha], axis=-1)
            _reread(image, f"{raw[:-1]}{_SWAPPED[raw[-1]]}")
            return np.asarray(image)
    # Not every format and compression has both orders; what the picture says without is told.
    except Exception:
        return None


def _reread(image: Image.Image, raw: str) -> None:
    tiles = getattr(image, "tile")  # noqa: B009 -- only files have it
    image.tile = [  # type: ignore[attr-defined]
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:])) for tile in tiles
    ]
    image.load()


def _raw_mode(image: Image.Image) -> str:
    """How the values lie in the file, by Pillow's name; empty for what does not come from one."""
    for tile in getattr(image, "tile", ()):
        args: Any = tile[3]
        raw = args if isinstance(args, str) else args[0] if isinstance(args, tuple) and args else ""
        return raw if isinstance(raw, str) else ""
    return ""


def _png_bits(file: Any) -> int | None:
    """The bits of a PNG's ``sBIT`` chunk, the most of any channel; None where it has none."""
    if file is None or file.closed:
        return None
    place = file.tell()
    try:
        file.seek(_SIGNATURE)
        while len(header := file.read(8)) == 8:
            length, name = int.from_bytes(header[:4], "big"), header[4:]
            if name == b"IDAT":
                return None
            if name == b"sBIT" and 1 <= length <= 4:
                # Of grey or colours; the last of two or four is the alpha channel's.
                bits = max(file.read(length)[: length - 1 + length % 2])
                return bits if 8 < bits <= 16 else None
            file.seek(length + 4, 1)
        return None
    finally:
        file.seek(place)


def _largest(value: Any) -> float | None:
    """A TIFF tag's largest number; None where it has none above 0."""
    numbers = value if isinstance(value, tuple | list) else (value,)
    try:
        found = [float(number) for number in numbers if number is not None]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return max(found) if found and 0 < max(found) < 2**32 else None
