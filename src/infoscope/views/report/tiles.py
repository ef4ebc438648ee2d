"""A crop with a feature's map on it, as one picture: for galleries in print and for notebooks."""

from __future__ import annotations

import base64
import io
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Float64, UInt8
from PIL import Image

from infoscope.images.views import Views

# As the report draws them: the weakest code above 0 is seen, the strongest does not hide the photograph.
FAINT, FULL = 70 / 255, 225 / 255
# How far a photograph steps back behind its map, as in `site.css`: share of grey, contrast, brightness.
GREY, CONTRAST, BRIGHTNESS = 0.75, 0.75, 1.15
# Veil over what the other crop does not show, ground where there is no photograph, the frame, and a tile's edge:
# without it a white photograph has no end on white paper.
VEIL, GROUND, FRAME, EDGE = 0.42, 236, 17, 200

Codes = Float64[np.ndarray, "crop row column"]


def codes_of(maps: pl.DataFrame, grid: int) -> Codes:
    """Both crops' codes on the full grid, ``[2, p, p]``, over the larger of their maxima.

    Args:
        maps: rows of ``maps.parquet`` of one feature and rank.
        grid: p, patches a side.

    Example:
        >>> rows = pl.DataFrame({"crop": [0, 1], "patch": [[0, 3], [1]], "value": [[1.0, 2.0], [4.0]]})
        >>> codes_of(rows, 2).tolist()
        [[[0.25, 0.0], [0.0, 0.5]], [[0.0, 1.0], [0.0, 0.0]]]
    """
    codes = np.zeros((2, grid * grid))
    for crop, patch, value in maps.select("crop", "patch", "value").iter_rows():
        codes[crop, np.array(patch, dtype=np.int64)] = value
    return codes.reshape(2, grid, grid) / max(float(codes.max()), 1e-12)


def crop_tiles(
    photograph: Image.Image | None, codes: Codes, views: Views, colour: str, side: int
) -> list[UInt8[np.ndarray, "side side 3"]]:
    """Both crops of a photograph under their maps; what both show is framed, and the rest veiled.

    Args:
        photograph: the image; None draws the maps on plain ground.
        codes: of both crops, 0 to 1, ``[2, p, p]``.
        views: the geometry of the crops.
        colour: of the maps, as ``#rrggbb``.
        side: pixels of a tile; rounded to whole pixels a patch.

    Returns:
        Two pictures, ``[side, side, 3]``.

    Raises:
        UnreadableImageError: the photograph is too small for the crops.
    """
    grid, shift = views.grid, views.shift
    cell = max(round(side / grid), 1)
    whole = None if photograph is None else _stepped_back(photograph, views, cell)
    hue = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], dtype=np.float64)
    tiles = []
    for crop in (0, 1):
        start = crop * shift * cell
        pixels = (
            np.full((grid * cell, grid * cell, 3), float(GROUND))
            if whole is None
            else whole[start : start + grid * cell, start : start + grid * cell].copy()
        )
        both = slice(shift * cell, None) if crop == 0 else slice(0, (grid - shift) * cell)
        shared = np.zeros(pixels.shape[:2], dtype=bool)
        shared[both, both] = True
        pixels[~shared] += VEIL * (255 - pixels[~shared])
        alpha = np.where(codes[crop] > 0, FAINT + (FULL - FAINT) * codes[crop], 0.0)
        alpha = np.kron(alpha, np.ones((cell, cell)))[:, :, None]
        pixels += alpha * (hue - pixels)
        line = max(cell // 8, 1)
        _draw_frame(pixels, np.ones_like(shared), line, EDGE)
        _draw_frame(pixels, shared, line, FRAME)
        tiles.append(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    return tiles


def data_uri(tile: UInt8[np.ndarray, "row column 3"], kind: Literal["JPEG", "WEBP"], **options: int) -> str:
    """A picture as a URI that holds it.

    Args:
        tile: the picture.
        kind: its format.
        **options: how Pillow writes it, such as ``quality``.

    Example:
        >>> data_uri(np.zeros((2, 2, 3), np.uint8), "WEBP", quality=70)[:23]
        'data:image/webp;base64,'
    """
    file = io.BytesIO()
    Image.fromarray(tile).save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _stepped_back(photograph: Image.Image, views: Views, cell: int) -> Float64[np.ndarray, "row column 3"]:
    """The picture that both crops are cut from, with whole pixels a patch, paler than it is."""
    picture = Image.fromarray(views.whole(photograph))
    side = (views.grid + views.reach) * cell
    pixels = np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS)).astype(np.float64)
    grey = pixels @ np.array([0.2126, 0.7152, 0.0722])
    pixels += GREY * (grey[:, :, None] - pixels)
    return np.clip((127.5 + CONTRAST * (pixels - 127.5)) * BRIGHTNESS, 0, 255)


def _draw_frame(pixels: Float64[np.ndarray, "row column 3"], inside: np.ndarray, line: int, grey: int) -> None:
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    pixels[top : top + line, left:right] = grey
    pixels[bottom - line : bottom, left:right] = grey
    pixels[top:bottom, left : left + line] = grey
    pixels[top:bottom, right - line : right] = grey
