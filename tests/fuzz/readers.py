"""What a reader under attack is: how its good input is made, how it is read, and what its files' checksums cover."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from PIL import Image

from infoscope.errors import InfoscopeError

Sum = Literal["none", "container", "file"]
"""What tells that a file was changed: nothing; checksums inside of it, which a well-formed other file has anew; or a
checksum kept elsewhere, so that any change is to be told."""

# Kinds of mutations by the end of a file's name; `bytes` and `place` are for all.
KINDS: dict[str, tuple[str, ...]] = {
    ".json": ("json", "text"),
    ".txt": ("text",),
    ".safetensors": ("safetensors",),
    ".npy": ("npy",),
    ".npz": ("npz", "zip"),
    ".pt": ("torch", "zip"),
    ".pth": ("torch", "zip"),
    ".parquet": ("parquet", "frame"),
    ".tar": ("tar",),
    ".png": ("png",),
    ".jpg": ("jpeg",),
    ".mat": ("mat",),
}


class Found:
    """What was read, by name: digests that can be compared, and what was refused in part."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.not_finite: list[str] = []
        self.refused: list[str] = []

    def keep(self, name: str, value: Any, *, finite: bool = True) -> None:
        """Note a value; ``finite`` where numbers that are not would be a fault."""
        digest = hashlib.sha256()
        for part in _parts(value, digest.update):
            if finite and not part:
                self.not_finite.append(name)
                finite = False
        self.digests[name] = digest.hexdigest()[:24]

    def refuse(self, error: InfoscopeError) -> None:
        """Note that a part was refused, as one picture of a folder is."""
        self.refused.append(str(error))

    def take(self, name: str, read: Callable[[], Any]) -> None:
        """Note what a function gives, or that it refuses."""
        try:
            value = read()
        except InfoscopeError as error:
            self.refuse(error)
        else:
            self.keep(name, value)


@dataclasses.dataclass(frozen=True)
class Reader:
    """One reader of files.

    Attributes:
        name: of it.
        build: writes a good input into a folder.
        read: reads it and notes what it says.
        kinds: kinds of mutations of the files of a pattern, where their suffix does not tell.
        sums: what checksums cover the files of a pattern; nothing where none fits.
        rule: why what is accepted may say something else than the good input did.
        files: which files are damaged, by pattern.
        writes: what reading may write, by pattern.
        optional: files whose absence is no fault, by pattern: the input then is one that never had them.
        words: what a message may call the input, beside the names of its files.
        seconds: what reading takes, roughly: a slow reader gets fewer cases where time is short.
        strict: tensors that the reader does not know are refused, never passed over.
    """

    name: str
    build: Callable[[Path], None]
    read: Callable[[Path, Found], None]
    kinds: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    sums: Mapping[str, Sum] = dataclasses.field(default_factory=dict)
    rule: str = "no checksum covers it"
    files: tuple[str, ...] = ("*",)
    writes: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    seconds: float = 0.01
    strict: bool = False

    def targets(self, folder: Path) -> list[str]:
        """The files to damage, in a fixed order."""
        names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in self.files)]

    def kinds_of(self, file: str) -> tuple[str, ...]:
        """The structured kinds of mutations of a file."""
        for pattern, kinds in self.kinds.items():
            if fnmatch.fnmatch(file, pattern):
                return kinds
        return KINDS.get(Path(file).suffix, ())

    def sum_of(self, file: str, *, gone: bool = False) -> Sum:
        """What tells that a file was changed, or is gone."""
        if gone and any(fnmatch.fnmatch(file, pattern) for pattern in self.optional):
            return "none"
        return next((sums for pattern, sums in self.sums.items() if fnmatch.fnmatch(file, pattern)), "none")


REGISTRY: dict[str, Reader] = {}


def register(reader: Reader) -> None:
    """Put a reader on the list."""
    assert reader.name not in REGISTRY, reader.name
    REGISTRY[reader.name] = reader


def all_readers() -> dict[str, Reader]:
    """Every reader by name; the modules that register them are imported here."""
    from fuzz import data_readers, probe_readers, run_readers, sae_readers

    assert all((data_readers, probe_readers, run_readers, sae_readers))
    return REGISTRY


def _parts(value: Any, update: Callable[[bytes], None]) -> Iterator[bool]:
    """Feed a value into a digest; yields whether each array of floats is finite."""
    if isinstance(value, torch.Tensor):
        value = value.detach().to(torch.float32 if value.dtype == torch.bfloat16 else value.dtype).cpu().numpy()
    if isinstance(value, Image.Image):
        update(f"{value.mode}{value.size}".encode())
        update(value.tobytes())
    elif isinstance(value, np.ndarray):
        update(f"{value.dtype}{value.shape}".encode())
        update(repr(value.tolist()).encode() if value.dtype == object else np.ascontiguousarray(value).tobytes())
        if value.dtype.kind in "fc":
            yield bool(np.isfinite(value).all())
    elif isinstance(value, pl.DataFrame):
        update(repr(value.schema).encode())
        for column in value.columns:
            update(repr(value[column].to_list()).encode())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            update(field.name.encode())
            yield from _parts(getattr(value, field.name), update)
    elif isinstance(value, Mapping):
        for key in value:
            update(repr(key).encode())
            yield from _parts(value[key], update)
    elif isinstance(value, list | tuple):
        update(f"{len(value)}[".encode())
        for item in value:
            yield from _parts(item, update)
    else:
        update(repr(value).encode("utf-8", "surrogatepass"))
