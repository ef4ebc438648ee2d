"""A run's photographs where they are now, one at a time: a folder is not listed to find a few of its files."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.hub import is_hub_id
from infoscope.images.decode import decode, read_file
from infoscope.images.huggingface import is_saved_dataset
from infoscope.images.source import open_images
from infoscope.images.watched import UNREAD, digest_bytes
from infoscope.measurement.belonging import as_measured, recorded_contents
from infoscope.report.thumbnails import same_images
from infoscope.storage.run import Run


@dataclass(frozen=True)
class Photographs:
    """Reads photographs by their ids.

    Attributes:
        read: gives the photograph of an id, or raises InfoscopeError.
        missing: why there is none, in a sentence; empty where there are.
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
    """The photographs of a run, or those that are named.

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
    return decode(io.BytesIO(encoded))


def _inside(folder: Path, image_id: str) -> Path:
    path = PurePosixPath(image_id)
    if path.is_absolute() or ".." in path.parts:
        raise InfoscopeError(f"{image_id} is no image of {folder}")
    return folder / path


def _without(reason: str) -> Photographs:
    def read(image_id: str) -> Image.Image:
        raise InfoscopeError(f"no photograph of {image_id}: {reason}")

    return Photographs(read, reason)
