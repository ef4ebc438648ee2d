"""The strips: a feature's top images, with both crops' maps over the pixels that the crops share."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float32, UInt8
from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.source import ImageSource, ids_sha256
from infoscope.images.views import Views
from infoscope.scope.maps import SparseMaps, overlap_maps
from infoscope.storage.manifest import ImagesRecord

# Our choices: sharp at twice the 80 to 150 CSS pixels of a tile, and a few kB each.
PHOTOGRAPH_SIDE = 160
PHOTOGRAPH_QUALITY = 72
# The weakest code above 0 is still seen; the strongest does not hide the photograph.
LEAST_ALPHA, MOST_ALPHA = 60, 235

Map = Float32[np.ndarray, "row column"]


@dataclass(frozen=True)
class Tile:
    """One crop's map on the overlap.

    Attributes:
        overlay: the map as a PNG data URI, a pixel a patch.
        description: what it shows, for a reader who does not see it.
        empty: the map has no mass there.
    """

    overlay: str
    description: str
    empty: bool


@dataclass(frozen=True)
class Pair:
    """One top image of a feature.

    Attributes:
        rank: from 1.
        image_id: the image's id.
        score: its ranking score.
        emd: distance between the two maps over D, or None where one is empty.
        photograph: number of the photograph in the page's style sheet, or None where it cannot be shown.
        tiles: the first and the second crop's map.
    """

    rank: int
    image_id: str
    score: float
    emd: float | None
    photograph: int | None
    tiles: tuple[Tile, Tile]


@dataclass
class Photographs:
    """The photographs a page shows, each kept once; where one cannot be had there is None, and it is counted.

    Attributes:
        source: the images of the run, or None where they cannot be opened.
        views: the geometry of the crops.
        uris: a JPEG data URI of each photograph's overlap, in the order they were asked for.
        unreadable: ids that could not be read now.
    """

    source: ImageSource | None
    views: Views
    uris: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._position: dict[str, int] = {}
        self._number: dict[str, int | None] = {}
        if self.source is not None:
            self._position = {image_id: index for index, image_id in enumerate(self.source.ids)}

    def number(self, image_id: str) -> int | None:
        """The number of a photograph, by the image's id; None where it cannot be read."""
        if self.source is None:
            return None
        if image_id not in self._number:
            try:
                image = self.source[self._position[image_id]]
            except (KeyError, InfoscopeError):
                self.unreadable.append(image_id)
                self._number[image_id] = None
            else:
                self._number[image_id] = len(self.uris)
                self.uris.append(photograph_uri(overlap_pixels(image, self.views)))
        return self._number[image_id]


def same_images(source: ImageSource, record: ImagesRecord) -> bool:
    """Whether a source's ids still mean the images that were measured.

    Ids that name files do so for good. Ids that only count (arrays, data sets) do while the content is the same.
    """
    return not source.fingerprint or ids_sha256(source) == record.ids_sha256


def overlap_pixels(image: Image.Image, views: Views) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels both crops share, ``[(p-s)n, (p-s)n, 3]``, cut from the first crop.

    Example:
        >>> overlap_pixels(Image.new("RGB", (64, 64)), Views(patch_size=4, grid=8, shift=2)).shape
        (24, 24, 3)
    """
    offset = views.shift * views.patch_size
    return views.crops(image)[0, offset:, offset:]


def photograph_uri(pixels: UInt8[np.ndarray, "height width 3"]) -> str:
    """Pixels as a small JPEG data URI."""
    image = Image.fromarray(pixels)
    if image.width > PHOTOGRAPH_SIDE:
        image = image.resize((PHOTOGRAPH_SIDE, PHOTOGRAPH_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=PHOTOGRAPH_QUALITY, optimize=True)
    return _data_uri("image/jpeg", file.getvalue())


def overlay_uri(activation: Map, largest: float, colour: tuple[int, int, int]) -> str:
    """A map as a PNG data URI, a pixel a patch: clear where the code is 0, the more opaque the larger it is.

    Args:
        activation: codes on the overlap, ``[row, column]``.
        largest: the code drawn with the most opacity: the pair's largest, so that both maps have one scale.
        colour: red, green and blue, 0 to 255.
    """
    share = activation / largest if largest > 0 else activation
    alpha = np.where(activation > 0, np.rint(LEAST_ALPHA + (MOST_ALPHA - LEAST_ALPHA) * share), 0)
    pixels = np.empty((*activation.shape, 4), np.uint8)
    pixels[..., :3] = colour
    pixels[..., 3] = alpha
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return _data_uri("image/png", file.getvalue())


def feature_pairs(
    top_images: pl.DataFrame,
    maps: pl.DataFrame,
    photographs: Photographs,
    colour: tuple[int, int, int],
) -> dict[int, list[Pair]]:
    """The pairs to show of each feature, by feature, in rank order.

    Args:
        top_images: the rows of ``top_images.parquet`` to show.
        maps: ``maps.parquet``; a map without a row is empty.
        photographs: gives the photographs, and the geometry.
        colour: of the maps.
    """
    shown = top_images.sort("feature", "rank")
    views = photographs.views
    first, second = overlap_maps(
        _crop_maps(shown, maps, 0, views.grid), _crop_maps(shown, maps, 1, views.grid), views.grid, views.shift
    )
    side = views.grid - views.shift
    pairs: dict[int, list[Pair]] = {}
    for row, *flat in zip(shown.iter_rows(named=True), first.dense(), second.dense(), strict=True):
        activations = [values.reshape(side, side) for values in flat]
        largest = float(max(activation.max() for activation in activations))
        one, two = (
            Tile(
                overlay=overlay_uri(activation, largest, colour),
                description=_describe(row, crop, activation),
                empty=not activation.any(),
            )
            for crop, activation in zip(("first", "second"), activations, strict=True)
        )
        pairs.setdefault(row["feature"], []).append(
            Pair(
                rank=row["rank"] + 1,
                image_id=row["image_id"],
                score=row["score"],
                emd=row["emd"],
                photograph=photographs.number(row["image_id"]),
                tiles=(one, two),
            )
        )
    return pairs


def _crop_maps(shown: pl.DataFrame, maps: pl.DataFrame, crop: int, grid: int) -> SparseMaps:
    """One crop's maps on the full grid, a map for each row of ``shown``."""
    rows = shown.select("feature", "rank").join(
        maps.filter(pl.col("crop") == crop), on=["feature", "rank"], how="left", maintain_order="left"
    )
    counts = rows["patch"].list.len().fill_null(0).to_numpy()
    entries = rows.filter(pl.col("patch").list.len() > 0).select("patch", "value").explode("patch", "value")
    return SparseMaps(
        start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        patch=entries["patch"].to_numpy(),
        value=entries["value"].to_numpy(),
        cells=grid * grid,
    )


def _describe(row: Mapping[str, Any], crop: str, activation: Map) -> str:
    """A tile in words: how many patches are active and where the peak is, counted from 1."""
    name = f"feature {row['feature']}, image {row['image_id']}, {crop} crop"
    active = int(np.count_nonzero(activation))
    if active == 0:
        return f"{name}: no activation on the shared patches"
    peak, column = np.unravel_index(activation.argmax(), activation.shape)
    return f"{name}: {active} of {activation.size} shared patches active, peak at row {peak + 1}, column {column + 1}"


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
