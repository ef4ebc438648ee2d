"""Features of every variant, extracted once to disk."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped
from torch import Tensor

from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.variants import Variant
from infoscope.backbones.backbone import Backbone
from infoscope.backbones.whole_pass import Outputs
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.options import ReadFrom, Resize
from infoscope.runtime.atomic import remedy_of
from infoscope.runtime.execution import Execution
from infoscope.runtime.progress import progress
from infoscope.runtime.seal import read_sealed, write_sealed
from infoscope.runtime.typed import Count, from_json

PROGRESS = "progress.json"


@dataclass(frozen=True)
class StoredArray:
    """An array of a store.

    Attributes:
        shape: of one image's entry.
        dtype: ``float32`` or ``float16``.
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Of one image."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class _Progress:
    """What ``progress.json`` holds."""

    arrays: dict[str, list[int | str]]
    done: Count
    skipped: list[list[int | str]]


class FeatureStore:
    """Arrays with one entry an image, as files that are mapped and not read into memory.

    Images that could not be read have no entry: entry i is that of image ``rows[i]`` of the source.

    Args:
        path: a directory of its own.
        count: images of the source.
        arrays: the arrays by name.

    Raises:
        InfoscopeError: the directory cannot be written, or holds arrays of other shapes.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "untouched"
        >>> store = FeatureStore(path, 3, {"pooled": StoredArray((2,), "float32")})
        >>> store.write(0, {"pooled": np.ones((2, 2), np.float32)})
        >>> store.finished(3, {1: "is cut short"})
        >>> FeatureStore(path, 3, {"pooled": StoredArray((2,), "float32")}).done
        3
        >>> store.rows, store.read("pooled").tolist()
        (array([0, 2]), [[1.0, 1.0], [1.0, 1.0]])
    """

    def __init__(self, path: Path, count: int, arrays: Mapping[str, StoredArray]):
        self.path = path
        self._count = count
        self._arrays = dict(arrays)
        self.done = 0
        """How many images of the source are in, or were skipped."""
        self.skipped: dict[int, str] = {}
        """Position and reason of each image that could not be read."""
        self._claim()

    @property
    def bytes(self) -> int:
        """On disk."""
        return self._count * sum(array.bytes for array in self._arrays.values())

    @property
    def rows(self) -> Int64[np.ndarray, " image"]:
        """Positions of the images that are in."""
        return np.setdiff1d(np.arange(self.done), np.fromiter(self.skipped, np.int64, len(self.skipped)))

    def write(self, first: int, entries: Mapping[str, Shaped[np.ndarray, "image ..."]]) -> None:
        """Put some images' entries in, one after the other.

        Args:
            first: the first one's place.
            entries: by array.

        Raises:
            InfoscopeError: an entry is NaN or infinite, or does not fit its type; or the disk is full.
        """
        for name, value in entries.items():
            array = self._arrays[name]
            with np.errstate(over="ignore"):
                stored = np.ascontiguousarray(value, array.dtype)
            if not np.isfinite(stored).all():
                if np.isfinite(value).all():
                    raise InfoscopeError(f"features are beyond the range of {array.dtype}: give --feature-type float32")
                raise InfoscopeError(
                    f"the features for {self.path} hold NaN or infinity: check the model and the SAE, or run the model "
                    "in float32"
                )
            with self._writing(), self._file(name).open("rb+") as file:
                # Not through a mapping: a full disk would end the process there, and here it is an error.
                file.seek(self._header(name) + first * array.bytes)
                file.write(stored.data)

    def finished(self, done: int, skipped: Mapping[int, str] | None = None) -> None:
        """Note that the first ``done`` images of the source are in, once they are on disk.

        Args:
            done: how many.
            skipped: position and reason of those among them that could not be read.

        Raises:
            InfoscopeError: the disk is full.
        """
        for name in self._arrays:
            with self._writing(), self._file(name).open("rb+") as file:
                os.fsync(file.fileno())
        self.done, self.skipped = done, dict(skipped or {})
        noted = {"arrays": self._shapes(), "done": done, "skipped": sorted(self.skipped.items())}
        write_sealed(self.path / PROGRESS, noted)

    def read(self, name: str) -> Shaped[np.ndarray, "image ..."]:
        """An array's entries, mapped.

        Raises:
            InfoscopeError: the file is missing, cut short, or of another type or shape than the store's.
        """
        file, array = self._file(name), self._arrays[name]
        # Not by numpy's own reader, which takes a header for Python: what it must be is known.
        header = _header_of(array, self._count)
        size = len(header) + self._count * array.bytes
        try:
            with file.open("rb") as stream:
                if stream.read(len(header)) != header or os.fstat(stream.fileno()).st_size != size:
                    raise InfoscopeError(
                        f"{file} is damaged, or not of {array.dtype} {[self._count, *array.shape]}; {self._again}"
                    )
                mapped = np.memmap(stream, array.dtype, "r", len(header), (self._count, *array.shape))
        except OSError as error:
            raise InfoscopeError(f"cannot read {file} ({error.strerror or error}); {self._again}") from error
        return mapped[: self.done - len(self.skipped)]

    @property
    def _again(self) -> str:
        return f"delete {self.path} and run the same command again"

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _claim(self) -> None:
        """What is there already; else files of the full size, so that a disk that is too small is known at once."""
        progress = self.path / PROGRESS
        if progress.is_file():
            value = read_sealed(progress, self._again)
            try:
                noted: _Progress = from_json(_Progress, value, other_entries=True)
                skipped = {int(str(at)): str(why) for at, why in noted.skipped}
                if noted.done > self._count or any(not 0 <= at < noted.done for at in skipped):
                    raise ValueError("it counts images that there are not")
            except ValueError as error:
                raise InfoscopeError(f"{progress} is damaged ({error}); {self._again}") from error
            if noted.arrays != self._shapes():
                raise InfoscopeError(f"{self.path} holds features of something else; choose another --out")
            self.done, self.skipped = noted.done, skipped
            return
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            for name, array in self._arrays.items():
                with self._file(name).open("wb") as file:
                    file.write(_header_of(array, self._count))
                    size = self._count * array.bytes
                    if hasattr(os, "posix_fallocate") and size:
                        os.posix_fallocate(file.fileno(), file.tell(), size)
                    else:
                        file.truncate(file.tell() + size)
        self.finished(0)

    def _shapes(self) -> dict[str, list[int | str]]:
        return {name: [self._count, *array.shape, array.dtype] for name, array in sorted(self._arrays.items())}

    def _header(self, name: str) -> int:
        """Bytes before the first entry."""
        before = self._file(name).stat().st_size - self._count * self._arrays[name].bytes
        if before <= 0:
            raise InfoscopeError(f"{self._file(name)} is cut short; {self._again}")
        return before

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.npy"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InfoscopeError(f"cannot write {self.path}: {error.strerror or error}; {remedy_of(error)}") from error


def _header_of(array: StoredArray, count: int) -> bytes:
    """The header of the ``.npy`` file of an array of so many images."""
    stream = io.BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(array.dtype)),
        "fortran_order": False,
        "shape": (count, *array.shape),
    }
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


@dataclass(frozen=True)
class Readout:
    """Which vectors of an image are kept.

    Attributes:
        vectors: ``cls`` or ``mean`` (of the patch tokens) and a block counted from the end; side by side in the array
            ``vectors``.
        patches: whether every patch token of the last block is kept, in the array ``patches``.
        final_norm: whether tokens go through the model's norm after the last block first.
    """

    vectors: tuple[tuple[str, int], ...] = ()
    patches: bool = False
    final_norm: bool = True

    def arrays(self, backbone: Backbone, dtype: str = "float16") -> dict[str, StoredArray]:
        """The arrays that hold them.

        Args:
            backbone: the model.
            dtype: ``float16``, half the space, whose range values are checked to be within; or ``float32``.
        """
        arrays = {}
        if self.vectors:
            arrays["vectors"] = StoredArray((len(self.vectors) * backbone.width,), dtype)
        if self.patches:
            arrays["patches"] = StoredArray((backbone.grid**2, backbone.width), dtype)
        return arrays

    def blocks(self, backbone: Backbone, site: ReadFrom) -> tuple[int, ...]:
        """The blocks that have to be read at a site, ascending."""
        if site == "site":
            return (backbone.block,)
        back = {block for _, block in self.vectors} | ({-1} if self.patches else set())
        return tuple(sorted(block % backbone.blocks for block in back))

    def take(self, backbone: Backbone, outputs: Outputs, site: ReadFrom) -> Mapping[str, np.ndarray]:
        """The arrays' entries for some images.

        Args:
            backbone: the model.
            outputs: of a variant, with the blocks of `blocks`.
            site: at the site ``site`` every block is the backbone's.
        """
        normed: dict[int, Tensor] = {}

        def tokens(back: int) -> Float32[Tensor, "image token width"]:
            block = backbone.block if site == "site" else back % backbone.blocks
            if block not in normed:
                read = outputs.tokens[block]
                normed[block] = backbone.final_norm(read) if self.final_norm else read
            return normed[block]

        prefix = backbone.prefix_tokens
        entries = {}
        if self.vectors:
            vectors = [
                tokens(back)[:, 0] if name == "cls" else tokens(back)[:, prefix:].mean(1) for name, back in self.vectors
            ]
            entries["vectors"] = torch.cat(vectors, dim=1).cpu().numpy()
        if self.patches:
            entries["patches"] = tokens(-1)[:, prefix:].cpu().numpy()
        return entries


# Our choice: progress is written, and the disk waited for, once in so many images.
KEPT_EVERY = 256


@dataclass(frozen=True)
class Wanted:
    """A variant, what is kept of it, and where.

    Attributes:
        variant: how the backbone is edited.
        readout: what is kept.
        store: where.
    """

    variant: Variant
    readout: Readout
    store: FeatureStore


def extract(
    edited: EditedBackbone,
    images: ImageSource,
    wanted: Sequence[Wanted],
    *,
    resize: Resize,
    execution: Execution,
    title: str = "Extracting",
) -> None:
    """Extract the features of some variants in one pass over the images; images that are in are not read again.

    Memory holds one batch of one variant's tokens at a time, whatever the number of images or variants.

    Args:
        edited: the model and what is needed to edit it.
        images: the images of one split.
        wanted: the variants.
        resize: how an image becomes square.
        execution: how the passes run; it changes memory and speed, not the result.
        title: of the progress.

    Raises:
        InfoscopeError: no image can be read, features are NaN, or the disk is full.
    """
    backbone = edited.backbone
    views = Views(backbone.patch_size, backbone.grid, 0, resize)
    wanted = [want for want in wanted if want.store.done < len(images)]
    if not wanted:
        return
    first = min(want.store.done for want in wanted)
    skipped = {at: why for want in wanted for at, why in want.store.skipped.items() if at < first}
    variants = [want.variant for want in wanted]
    blocks = sorted({block for want in wanted for block in want.readout.blocks(backbone, want.variant.site)})
    of_variant = {id(want.variant): want for want in wanted}
    done, unkept, entry = first, 0, first - len(skipped)
    with progress(title, len(images) - first, "images") as advance:
        count = execution.batch_size or backbone.batch_size
        for batch in decode_ahead(images, range(first, len(images)), views.full, count, execution.threads):
            skipped.update(batch.unreadable)
            if batch.index:
                ids = [images.ids[index] for index in batch.index]
                for variant, outputs in edited.run(batch.pixels, ids, variants, blocks):
                    want = of_variant[id(variant)]
                    want.store.write(entry, want.readout.take(backbone, outputs, variant.site))
                entry += len(batch.index)
            read = len(batch.index) + len(batch.unreadable)
            done, unkept = done + read, unkept + read
            if unkept >= KEPT_EVERY or done == len(images):
                for want in wanted:
                    want.store.finished(done, skipped)
                unkept = 0
            advance(read)
    if len(skipped) == len(images):
        raise all_unreadable(images, next(iter(skipped.values())))
