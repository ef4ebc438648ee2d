"""The site's photographs: each picture once and small, whole as the crops are cut from it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import decode_threads
from infoscope.images.source import ImageSource, ids_sha256
from infoscope.images.views import Views
from infoscope.storage.manifest import ImagesRecord

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
    """Where an image's thumbnail lies in the site, a thousand to a folder.

    Example:
        >>> thumbnail_path(12345)
        'images/12/12345.webp'
    """
    return f"images/{image // 1000}/{image}.webp"
