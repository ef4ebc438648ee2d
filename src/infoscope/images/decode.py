"""From the bytes of an image file to pixels: any picture that Pillow reads, as upright 8-bit RGB."""

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

__all__ = ["UnreadableImageError", "as_stored", "decode", "read_file", "reason_of", "upright_rgb", "upright_size"]

ORIENTATION = 0x0112
# EXIF orientations that swap width and height.
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
# Where Pillow keeps an orientation in a picture's ``info``.
ORIENTATION_KEYS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
# Pillow converts these only by way of the mode whose colours are not multiplied by alpha.
PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}

_ADDRESS = re.compile(r"\s*<[^<>]*\bat 0x[0-9a-fA-F]+[^<>]*>")
# ``warnings.catch_warnings`` changes state that all threads share.
_WARNINGS = Lock()

Read = TypeVar("Read")


def decode(file: Path | bytes) -> Image.Image:
    """Decode an image file as upright RGB.

    The EXIF orientation is applied. Grey, palette, CMYK, YCbCr and 16-bit pixels become 8-bit RGB. An alpha channel is
    dropped, as model preprocessors drop it. Only the first of several frames is read. Damaged metadata are ignored.

    Args:
        file: the path of an image file, or its bytes.

    Returns:
        The picture. Where the range of its values is doubtful, ``info[wide.DOUBT]`` says why.

    Raises:
        UnreadableImageError: the file is missing, truncated, not an image, or its pixels have no known range.
    """
    return _read(file, _upright)


def as_stored(file: Path, use: Callable[[Image.Image], Read]) -> Read:
    """What a function makes of an opened image file, with the pixels as stored. Damaged metadata are ignored.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "mask.png"
        >>> Image.new("L", (2, 1), 7).save(file)
        >>> as_stored(file, lambda image: (image.mode, image.getpixel((0, 0))))
        ('L', 7)

    Raises:
        UnreadableImageError: the file is missing, truncated or not an image.
    """
    return _read(file, lambda image, _: use(image))


def upright_size(file: Path) -> tuple[int, int]:
    """Width and height that an image file has once decoded; only its header is read.

    Raises:
        UnreadableImageError: the file is missing or not an image.
    """

    def size(image: Image.Image, _: Callable[[], Image.Image]) -> tuple[int, int]:
        width, height = image.size
        return (height, width) if _orientation(image) in ON_ITS_SIDE else (width, height)

    return _read(file, size)


def read_file(file: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        UnreadableImageError: there is no such file, it cannot be read, or it is a folder, a pipe or a device.
    """
    with _unreadable():
        _check_regular(file)
        return file.read_bytes()


def upright_rgb(image: Image.Image) -> Image.Image:
    """An image of the caller's as `decode` gives it; its pixels may still have to be read from a file.

    Raises:
        UnreadableImageError: that file is damaged, or the pixels have no known range.

    Example:
        >>> upright_rgb(Image.new("L", (4, 2), 7)).getpixel((0, 0))
        (7, 7, 7)
    """
    with _unreadable():
        return _upright(image, None)


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


def _read(file: Path | bytes, use: Callable[[Image.Image, Callable[[], Image.Image]], Read]) -> Read:
    """What ``use`` makes of an opened picture, or of the same picture without its metadata where that fails."""
    with _unreadable():
        if isinstance(file, Path):
            _check_regular(file)
        try:
            return _open(file, use)
        except (UnreadableImageError, Image.DecompressionBombError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:  # from the file system, not from Pillow
                raise
            content = file.read_bytes() if isinstance(file, Path) else file
            # Where warnings are errors, a warning about a damaged tag ends the reading of intact pixels.
            unchanged = [content] if isinstance(error, Warning) else []
            for stripped in (*unchanged, *without_metadata(content)):
                try:
                    with _WARNINGS, warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        return _open(stripped, use)
                except Exception:  # the first error is the one to report
                    continue
            raise


def _open(file: Path | bytes, use: Callable[[Image.Image, Callable[[], Image.Image]], Read]) -> Read:
    def reopen() -> Image.Image:
        return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)

    with reopen() as image:
        return use(image, reopen)


def _check_regular(file: Path) -> None:
    """Refuse what is not a file: opening a pipe would wait for somebody to write to it."""
    if file.exists() and not file.is_file():
        raise UnreadableImageError("is a folder, pipe or device, no file")


@contextmanager
def _unreadable() -> Iterator[None]:
    try:
        yield
    except UnreadableImageError:
        raise
    # Pillow's decoders raise nearly anything on damaged bytes, and one bad file must not end a long pass.
    except Exception as error:
        raise UnreadableImageError(reason_of(error)) from error


def _upright(image: Image.Image, reopen: Callable[[], Image.Image] | None) -> Image.Image:
    """An opened image as upright 8-bit RGB; ``reopen`` opens it again, for both halves of 16-bit colours."""
    wide = has_wide_pixels(image)
    largest = stated_largest(image) if wide else None
    image.load()
    turn = TURNS.get(_orientation(image))
    doubt = None
    if wide:
        image, doubt = eight_bits(image, largest, reopen)
    if turn is not None:
        image = image.transpose(turn)
        for key in ORIENTATION_KEYS:  # otherwise whoever reads the picture next would turn it again
            image.info.pop(key, None)
    elif image.mode == "RGB":
        # A copy: the file may be closed by whoever opened it, and a picture in memory belongs to the caller.
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
    """The EXIF orientation; 1 (upright) where there is none or it cannot be parsed, since the pixels are intact."""
    try:
        orientation = image.getexif().get(ORIENTATION)
    # The EXIF parser, too, raises nearly anything on damaged bytes.
    except Exception:
        return 1
    return orientation if isinstance(orientation, int) else 1
