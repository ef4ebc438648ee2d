"""The photographs of a run: found again, checked to be those that were measured, and made into thumbnails."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.decode import decode, read_file
from infoscope.images.huggingface import is_saved_dataset
from infoscope.images.prefetch import decode_threads
from infoscope.images.source import ImageSource, ids_sha256, open_images
from infoscope.images.views import Views
from infoscope.images.watched import UNREAD, digest_bytes
from infoscope.measurement.identity import as_measured, recorded_contents
from infoscope.runtime.hub import is_hub_id
from infoscope.runtime.manifest import ImagesRecord
from infoscope.runtime.run import Run


@dataclass(frozen=True)
class Photographs:
    """Reads photographs by their ids.

    Attributes:
        read: gives the photograph of an id, or raises InfoscopeError.
        missing: why there are none, in a sentence; empty where there are.
    """

    read: Callable[[str], Image.Image]
    missing: str = ""

    def of(self, image_id: str) -> Image.Image | None:
        """A photograph; None where it cannot be read."""
        if self.missing:
            return None
        try:
            return self.read(image_id)
        except InfoscopeError:
            return None


def find_photographs(run: Run, named: Any = None, *, network: bool = True) -> Photographs:
    """The photographs of a run, from where its manifest says they are, or from where the caller says.

    Args:
        run: the run.
        named: what `infoscope.open_images` opens, where the photographs are no longer at the place the run names.
        network: whether a data set of the hub may be asked for.

    Raises:
        InfoscopeError: those that are named cannot be opened, or are not those that were measured.
    """
    record = run.manifest.images
    if named is None:
        folder = Path(record.source).expanduser()
        if folder.is_dir() and not is_saved_dataset(folder) and _has_one(folder, run):
            return Photographs(partial(_read_measured, folder, _contents_by_id(run)))
        if not network and not Path(record.source).exists() and is_hub_id(record.source, with_split=True):
            return _without(f"{record.source} is not asked for over the network: give images=")
    try:
        source = open_images(record.source if named is None else named)
    except InfoscopeError as error:
        if named is not None:
            raise
        return _without(str(error))
    if not same_images(source, record):
        if named is not None:
            raise InfoscopeError(f"{source.name} are not the images that were measured: their content differs")
        return _without(f"{source.name} has changed since it was measured")
    source = as_measured(run, source)
    places = {image_id: place for place, image_id in enumerate(source.ids)}

    def read(image_id: str) -> Image.Image:
        if image_id not in places:
            raise InfoscopeError(f"{source.name} has no image {image_id}")
        return source[places[image_id]]

    return Photographs(read)


def _has_one(folder: Path, run: Run) -> bool:
    """Whether the first of the run's photographs is a file of the folder; else its ids are of shards in it."""
    ids = run.top_images["image_id"]
    try:
        return ids.is_empty() or _inside(folder, ids[0]).is_file()
    except InfoscopeError:
        return False


def _contents_by_id(run: Run) -> dict[str, int]:
    """What each of the run's photographs was like, by its id, where the run knows (see `Watched`)."""
    contents = recorded_contents(run)
    if contents is None:
        return {}
    shown = run.top_images.select("image", "image_id").unique("image")
    return {image_id: int(contents[image]) for image, image_id in shown.iter_rows() if image < len(contents)}


def _read_measured(folder: Path, contents: dict[str, int], image_id: str) -> Image.Image:
    encoded = read_file(_inside(folder, image_id))
    if contents.get(image_id, UNREAD) not in (UNREAD, digest_bytes(encoded)):
        raise InfoscopeError(f"{image_id} of {folder} has changed since it was measured")
    return decode(encoded)


def _inside(folder: Path, image_id: str) -> Path:
    path = PurePosixPath(image_id)
    if path.is_absolute() or ".." in path.parts:
        raise InfoscopeError(f"{image_id} is no image of {folder}")
    return folder / path


def _without(reason: str) -> Photographs:
    def read(image_id: str) -> Image.Image:
        raise InfoscopeError(f"no photograph of {image_id}: {reason}")

    return Photographs(read, reason)


# Our choices: sharp enough at the 200 to 300 CSS pixels of a crop, and 7 kB each.
SIDE, QUALITY = 256, 60
# How many are asked for ahead, and so are in memory.
AHEAD = 64


def same_images(source: ImageSource, record: ImagesRecord) -> bool:
    """Whether a source's ids still mean the images that were measured; each one's content is compared when it is read.

    Ids that name files do so for good. Ids that only count (arrays, data sets) do while the content is the same.
    """
    return not source.fingerprint or ids_sha256(source) == record.ids_sha256


def thumbnail(image: Image.Image, views: Views) -> bytes:
    """The picture that the crops are cut from, ``(p+s)n`` a side, as a small WebP file.

    Raises:
        UnreadableImageError: the image is too small for the views.

    Example:
        >>> file = thumbnail(Image.new("RGB", (640, 480)), Views(patch_size=14, grid=16, shift=2))
        >>> Image.open(io.BytesIO(file)).size
        (252, 252)
    """
    picture = Image.fromarray(views.whole(image))
    if picture.width > SIDE:
        picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=QUALITY, method=4)
    return file.getvalue()


class Thumbnails:
    """Thumbnails of a run's images.

    Attributes:
        source: the images, or None where they cannot be had; then there are none.
        views: the geometry of the crops.
    """

    def __init__(self, source: ImageSource | None, views: Views) -> None:
        self.source, self.views = source, views
        self._place = {} if source is None else {image_id: place for place, image_id in enumerate(source.ids)}

    def of(self, image_id: str) -> bytes | None:
        """The thumbnail of an image; None where it cannot be read now, or is another than when it was measured."""
        if self.source is None:
            return None
        try:
            return thumbnail(self.source[self._place[image_id]], self.views)
        except (KeyError, InfoscopeError):
            return None

    def each(self, image_ids: Iterable[str]) -> Iterator[bytes | None]:
        """The thumbnails of some images, in their order, made by several threads."""
        with ThreadPoolExecutor(decode_threads()) as pool:
            waiting = iter(image_ids)
            while group := list(islice(waiting, AHEAD)):
                yield from pool.map(self.of, group)


def thumbnail_path(image: int) -> str:
    """Where an image's thumbnail lies in the report, a thousand to a folder.

    Example:
        >>> thumbnail_path(12345)
        'images/12/12345.webp'
    """
    return f"images/{image // 1000}/{image}.webp"
