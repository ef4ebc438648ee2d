"""Any image that Pillow reads, as upright 8-bit RGB."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from infoscope.errors import UnreadableImageError
from infoscope.images.metadata import without_metadata
from infoscope.images.wide import DOUBT, eight_bits, has_wide_pixels, stated_largest

__all__ = [
    "UnreadableImageError",
    "check_regular",
    "decode",
    "read_file",
    "readable_rgb",
    "reason_of",
    "upright_rgb",
    "upright_size",
]

ORIENTATION = 0x0112
# EXIF orientations that turn a picture on its side.
ON_ITS_SIDE = frozenset({5, 6, 7, 8})
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TELLS_ORIENTATION = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
# Pillow converts these only by way of the mode whose colours are not multiplied by alpha.
PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}

_ADDRESS = re.compile(r"\s*<[^<>]*\bat 0x[0-9a-fA-F]+[^<>]*>")
_WARNINGS = Lock()

Read = TypeVar("Read")


def decode(file: Path | io.BytesIO) -> Image.Image:
    """Read an image file as upright RGB.

    EXIF orientation is applied; grey, palette, CMYK, YCbCr and 16-bit pixels become 8-bit RGB; an alpha channel is
    dropped, as model preprocessors do; of several frames the first is taken. Damaged metadata are read past.

    Returns:
        The picture; where its values leave a doubt, ``info`` says which, under `wide.DOUBT`.

    Raises:
        UnreadableImageError: the file is missing, truncated, not an image, or has pixels without a known range.
    """
    with _unreadable():
        check_regular(file)
        return _read(file, upright_rgb)


def _read(file: Path | io.BytesIO, use: Callable[[Image.Image, Callable[[], Image.Image]], Read]) -> Read:
    """What ``use`` makes of an opened picture; where that fails, of the same without its metadata."""
    try:
        return _open(file, use)
    except (UnreadableImageError, Image.DecompressionBombError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the file system's, not Pillow's
            raise
        content = file.read_bytes() if isinstance(file, Path) else file.getvalue()
        # Where warnings are errors, Pillow's on a damaged tag ends the reading of pixels that are whole.
        attempts = [content] if isinstance(error, Warning) else []
        for fewer in (*attempts, *without_metadata(content)):
            try:
                with _WARNINGS, warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return _open(io.BytesIO(fewer), use)
            except Exception:  # the first error is the one to tell
                continue
        raise


def _open(file: Path | io.BytesIO, use: Callable[[Image.Image, Callable[[], Image.Image]], Read]) -> Read:
    def again() -> Image.Image:
        if isinstance(file, io.BytesIO):
            file.seek(0)
        return Image.open(file)

    with again() as image:
        return use(image, again)


def read_file(file: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        UnreadableImageError: there is no such file, it cannot be read, or it is a folder, a pipe or a device.
    """
    with _unreadable():
        check_regular(file)
        return file.read_bytes()


def as_stored(file: Path, use: Callable[[Image.Image], Read]) -> Read:
    """What a function makes of an opened image file whose pixels stay as stored; damaged metadata are read past.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "mask.png"
        >>> Image.new("L", (2, 1), 7).save(file)
        >>> as_stored(file, lambda image: (image.mode, image.getpixel((0, 0))))
        ('L', 7)

    Raises:
        UnreadableImageError: the file is missing, truncated or not an image.
    """
    with _unreadable():
        check_regular(file)
        return _read(file, lambda image, _: use(image))


def upright_size(file: Path) -> tuple[int, int]:
    """Width and height of an image file as it is decoded; only its header is read.

    Raises:
        UnreadableImageError: the file is missing or not an image.
    """

    def size(image: Image.Image, again: Callable[[], Image.Image]) -> tuple[int, int]:
        width, height = image.size
        return (height, width) if _orientation(image) in ON_ITS_SIDE else (width, height)

    with _unreadable():
        check_regular(file)
        return _read(file, size)


def readable_rgb(image: Image.Image) -> Image.Image:
    """As `upright_rgb`, for an image whose pixels may still have to be read from a file.

    Raises:
        UnreadableImageError: the file is damaged, or its pixels have no known range.
    """
    with _unreadable():
        return upright_rgb(image)


def reason_of(error: Exception) -> str:
    """Why a file could not be read, in one line that is the same every time: no address in memory.

    Example:
        >>> import io
        >>> try:
        ...     Image.open(io.BytesIO(b"no image"))
        ... except Exception as error:
        ...     print(reason_of(error))
        cannot identify image file
    """
    if isinstance(error, UnidentifiedImageError):
        return "cannot identify image file"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = _ADDRESS.sub("", text).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def check_regular(file: Path | io.BytesIO) -> None:
    """Refuse what is no file: opening a pipe would wait for somebody to write to it.

    Raises:
        UnreadableImageError: it is a folder, a pipe or a device.
    """
    if isinstance(file, Path) and file.exists() and not file.is_file():
        raise UnreadableImageError("is a folder, pipe or device, no file")


@contextmanager
def _unreadable() -> Iterator[None]:
    try:
        yield
    except UnreadableImageError:
        raise
    # Pillow's decoders raise nearly anything on damaged bytes: one bad file must not end a long pass.
    except Exception as error:
        raise UnreadableImageError(reason_of(error)) from error


def upright_rgb(image: Image.Image, again: Callable[[], Image.Image] | None = None) -> Image.Image:
    """An opened image as upright 8-bit RGB; see `decode`.

    Args:
        image: the image.
        again: opens it anew, for both halves of 16-bit colours.

    Example:
        >>> upright_rgb(Image.new("L", (4, 2), 7)).getpixel((0, 0))
        (7, 7, 7)
    """
    wide = has_wide_pixels(image)
    largest = stated_largest(image) if wide else None
    image.load()
    turn = TURNS.get(_orientation(image))
    doubt = None
    if wide:
        image, doubt = eight_bits(image, largest, again)
    if turn is not None:
        image = image.transpose(turn)
        for key in TELLS_ORIENTATION:  # or whoever reads the picture again turns it twice
            image.info.pop(key, None)
    elif image.mode == "RGB":
        # A copy: whoever opened the file may close it, and a picture in memory stays its owner's.
        image = image.copy()
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    if image.mode in PREMULTIPLIED:
        image = image.convert(PREMULTIPLIED[image.mode])
    if image.mode != "RGB":
        image = image.convert("RGB")
    if doubt is not None:
        image.info[DOUBT] = doubt
    return image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or it cannot be read: the pixels are whole without it."""
    try:
        found = image.getexif().get(ORIENTATION)
    # The parser of EXIF raises nearly anything on damaged bytes, too.
    except Exception:
        return 1
    return found if isinstance(found, int) else 1
