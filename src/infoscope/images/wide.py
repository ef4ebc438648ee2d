"""Pixels of more than 8 bits, brought to 8: what their largest value is, and a doubt where no file states it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from infoscope.errors import UnreadableImageError

DOUBT = "infoscope.doubt"
"""The key of ``Image.info`` under which a decoded picture says what is doubtful about its values."""

FULL = 65535
# Below it the highest of 16 bits is unused: the picture is dark, or its values have fewer bits than the file allows.
HALF = 32768

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_MAX_SAMPLE, _S_MAX_SAMPLE = 281, 341
_PNG_SIGNATURE_BYTES = 8
# The raw mode in which Pillow reads the two bytes of a value in the other order.
_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def has_wide_pixels(image: Image.Image) -> bool:
    """Whether an opened picture stores more than 8 bits a value.

    Example:
        >>> has_wide_pixels(Image.new("I;16", (2, 2))), has_wide_pixels(Image.new("RGB", (2, 2)))
        (True, False)
    """
    return image.mode.startswith(("I", "F")) or ";16" in _raw_mode(image)


def stated_largest(image: Image.Image) -> float | None:
    """The largest value that pixels can have by what their file states; None where it states nothing.

    A TIFF states it by having fewer than 16 bits a sample, or by its largest sample, which is rounded up to whole bits
    since some writers store the largest value that occurs; a PNG states it in its ``sBIT`` chunk. Call this before the
    pixels are loaded, while the file is open.
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
    image: Image.Image, largest: float | None, reopen: Callable[[], Image.Image] | None
) -> tuple[Image.Image, str | None]:
    """A picture of more than 8 bits a value, brought to 8.

    Args:
        image: the picture, loaded.
        largest: what `stated_largest` gave before the picture was loaded.
        reopen: opens the picture again, since Pillow keeps only the upper halves of 16-bit colours; None where it
            cannot be opened again.

    Returns:
        The picture, in mode ``L`` if it is grey; and what is doubtful about it, None where its range is known or
        evident.

    Raises:
        UnreadableImageError: the pixels have no known range.
    """
    if image.mode.startswith(("I", "F")):
        return _grey(image, largest)
    upper = np.asarray(image)
    colours = _colours(upper, image)
    if not colours.any() or colours.max() >= HALF >> 8:
        return image, None
    lower = None if reopen is None else _lower_halves(reopen)
    if lower is None or lower.shape != upper.shape:
        return image, None if largest == FULL else _dark(int(colours.max()) << 8 | 255)
    values = upper.astype(np.uint16) << 8 | lower
    colours = _colours(values, image)
    if largest is None or largest == FULL or not _unscaled(colours, largest, image):
        return image, None if largest == FULL else _dark(int(colours.max()))
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
        pixels = top - pixels  # Pillow inverts 8-bit pixels only
        doubt = None
    return Image.fromarray(np.round(pixels).astype(np.uint8)), doubt


def _dark(high: int) -> str:
    return (
        f"has values up to {high:,} of 65,535 and does not say that they have fewer bits than 16, so it is read as dark"
    )


def _unscaled(values: Shaped[np.ndarray, "*any"], largest: float, image: Image.Image) -> bool:
    """Whether values lie on the stated scale, and are not spread over all 16 bits as the PNG standard asks.

    Spreading shifts the bits up, so values that were spread are multiples of the step, however small they are.
    """
    if not values.max() <= largest:
        return False
    if image.format != "PNG" or not values.any():
        return True
    return bool((np.asarray(values).astype(np.int64) % (65536 // (int(largest) + 1))).any())


def _colours(values: Shaped[np.ndarray, "row column *channel"], image: Image.Image) -> Shaped[np.ndarray, "*any"]:
    """Values without those of an alpha channel."""
    return values[..., :-1] if image.mode in ("RGBA", "LA", "RGBX") and values.ndim == 3 else values


def _lower_halves(reopen: Callable[[], Image.Image]) -> Shaped[np.ndarray, "row column channel"] | None:
    """The lower 8 bits of 16-bit colours: Pillow reads them as the upper ones if told the other order of bytes."""
    try:
        with reopen() as image:
            raw = _raw_mode(image)
            if raw == "LA;16B":
                # No raw mode swaps these, so the four bytes of a pixel are read as colours: grey and alpha, each with
                # its upper half first.
                _load_as(image, "RGBA")
                halves = np.asarray(image)
                grey, alpha = halves[..., 1], halves[..., 3]
                return np.stack([grey, grey, grey, alpha], axis=-1)
            _load_as(image, f"{raw[:-1]}{_SWAPPED[raw[-1]]}")
            return np.asarray(image)
    # Not every format and compression can be read in both orders; the caller reports the doubt instead.
    except Exception:
        return None


def _load_as(image: Image.Image, raw: str) -> None:
    """Load an opened picture as if its bytes were laid out in another raw mode."""
    tiles = getattr(image, "tile")  # noqa: B009 -- only files have it
    image.tile = [  # type: ignore[attr-defined]
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:])) for tile in tiles
    ]
    image.load()


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name for how the values lie in the file; empty for a picture that does not come from one."""
    for tile in getattr(image, "tile", ()):
        args: Any = tile[3]
        raw = args if isinstance(args, str) else args[0] if isinstance(args, tuple) and args else ""
        return raw if isinstance(raw, str) else ""
    return ""


def _png_bits(file: Any) -> int | None:
    """The most bits that a PNG's ``sBIT`` chunk states for any channel; None without such a chunk."""
    if file is None or file.closed:
        return None
    position = file.tell()  # Pillow reads on from there
    try:
        file.seek(_PNG_SIGNATURE_BYTES)
        while len(header := file.read(8)) == 8:
            length, name = int.from_bytes(header[:4], "big"), header[4:]
            if name == b"IDAT":
                return None
            if name == b"sBIT" and 1 <= length <= 4:
                # One number per channel; the last of two or four is the alpha channel's, which does not count.
                bits = max(file.read(length)[: length - 1 + length % 2])
                return bits if 8 < bits <= 16 else None
            file.seek(length + 4, 1)
        return None
    finally:
        file.seek(position)


def _largest(value: Any) -> float | None:
    """The largest number in a TIFF tag; None where it has none above 0."""
    values = value if isinstance(value, tuple | list) else (value,)
    try:
        largest = max((float(number) for number in values if number is not None), default=0.0)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return largest if 0 < largest < 2**32 else None
