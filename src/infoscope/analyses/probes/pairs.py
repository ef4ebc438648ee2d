"""Photographs and the files of their targets: which belong together, and whether they fit."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.decode import upright_size
from infoscope.images.folder import FileSource, FolderSource, search_below
from infoscope.runtime.sheet import is_sheet, read_columns
from infoscope.runtime.text import read_text

# What a table's columns may be called.
_PHOTOGRAPHS = ("photograph", "image", "rgb", "path", "file", "filename", "file_name")
_TARGETS = ("depth", "depth_map", "target", "mask", "label", "annotation")


@dataclass(frozen=True)
class Pairs:
    """Photographs and the file of each one's target.

    Attributes:
        images: the photographs, in the byte order of their ids.
        files: the target of each.
    """

    images: FileSource
    files: tuple[str, ...]


def pair_folders(
    images: Path,
    targets: Path,
    *,
    kind: str = "mask",
    image_ending: str = "",
    target_ending: str = "",
    suffixes: Collection[str] | None = None,
) -> Pairs:
    """Pair the photographs of one folder with the targets of another by their paths without endings.

    Args:
        images: a folder of photographs, searched recursively.
        targets: a folder of targets, with the same folders inside if there are any.
        kind: what a target is called.
        image_ending: the end of a photograph's name that is no part of what both share; files with another end are
            left out. The suffix (``.jpg``) when not given.
        target_ending: the same of a target.
        suffixes: those of targets, in lower case; what Pillow reads when not given.

    Raises:
        InfoscopeError: a folder is missing or empty, a photograph has no target or two of them, or endings fit none.
    """
    for folder, what in ((images, "photographs"), (targets, f"{kind}s")):
        if not folder.is_dir():
            raise InfoscopeError(f"no such folder of {what}: {folder}; check the path")
    source: FileSource = FolderSource(images)
    if not len(source):
        raise InfoscopeError(f"no images in {images}; name a folder with .jpg or .png files in it")
    by_key: dict[str, str] = {}
    for name, file in sorted(search_below(targets.absolute(), suffixes).files):
        key = _key(name, target_ending)
        if key in by_key:
            raise InfoscopeError(
                f"{by_key[key]} and {file} are both {kind}s of {key}: keep one, or say how {kind} names end"
            )
        if key is not None:
            by_key[key] = file
    if not by_key:
        raise InfoscopeError(f"no {kind}s in {targets}" + (f" that end in {target_ending}" if target_ending else ""))
    # Photographs decide what is in the set: targets without a photograph are left out, and never the other way round.
    keys = [_key(image_id, image_ending) for image_id in source.ids]
    paired = [row for row, key in enumerate(keys) if key is not None]
    if not paired:
        raise InfoscopeError(f"no images in {images} end in {image_ending}; check --image-ending")
    missing = [row for row in paired if keys[row] not in by_key]
    if missing:
        raise InfoscopeError(
            f"{len(missing)} of {len(paired)} photographs in {images} have no {kind} in {targets} (the first: "
            f"{source.ids[missing[0]]}): names must be alike up to their endings; move these photographs away, or say "
            "how names end"
        )
    chosen = source.subset(paired)
    return Pairs(chosen, tuple(by_key[str(keys[row])] for row in paired))


def pair_list(root: Path, file: Path, kind: str = "depth map") -> Pairs:
    """The pairs that a list names: a photograph and its target a line, and whatever follows.

    Args:
        root: the folder below which the paths begin; a leading slash is left out, as published lists have one.
        file: the list; a ``.csv`` or ``.tsv`` has a header with a column ``photograph`` (or ``image``, ``path``) and
            one ``depth``, ``mask`` or ``target``.
        kind: what a target is called.

    Raises:
        InfoscopeError: the list cannot be read, is empty, names a photograph twice or with no target, or names a file
            that is not there.
    """
    target_of: dict[str, str] = {}
    for number, parts in _listed(file, kind):
        if len(parts) < 2 or parts[1] == "None":
            raise InfoscopeError(f"line {number} of {file} names no {kind}: take it out, or complete it")
        # Published lists write paths as if the data set's folder were the root of the disk.
        image_id, target = (part.lstrip("/").removeprefix("./") for part in parts[:2])
        if target_of.setdefault(image_id, target) != target:
            raise InfoscopeError(
                f"line {number} of {file}: {image_id} has the {kind} {target_of[image_id]} already; keep one of the two"
            )
    if not target_of:
        raise InfoscopeError(f"the list {file} is empty; write a line for each photograph")
    base = root.absolute()
    ids = sorted(target_of, key=str.encode)
    for image_id in ids:
        for name in (image_id, target_of[image_id]):
            if not (base / name).is_file():
                raise InfoscopeError(f"{file} names {name}, which is not in {root}: give the folder its paths start in")
    source = FileSource(ids, [str(base / image_id) for image_id in ids], str(root))
    return Pairs(source, tuple(str(base / target_of[image_id]) for image_id in ids))


def _listed(file: Path, kind: str) -> list[tuple[int, list[str]]]:
    """The lines of a list that hold anything, with their numbers from 1 and what stands on each."""
    if is_sheet(file):
        columns = read_columns(file, {"photograph": _PHOTOGRAPHS, kind: _TARGETS}, what="the list")
        rows = zip(columns.values["photograph"], columns.values[kind], strict=True)
        return [(line, list(row)) for line, row in zip(columns.lines, rows, strict=True)]
    lines = enumerate(read_text(file, "the list").split("\n"), 1)
    return [(number, line.split()) for number, line in lines if line.strip()]


def check_size(photograph: str, target: str, shape: tuple[int, ...], kind: str = "mask") -> None:
    """Refuse a target of another size than its photograph; of a photograph only the header is read.

    A photograph that cannot be read is not judged: it will be skipped, and the pass names it.

    Raises:
        InfoscopeError: the sizes differ.
    """
    try:
        width, height = upright_size(Path(photograph))
    except UnreadableImageError:
        return
    if tuple(shape) != (height, width):
        raise InfoscopeError(
            f"the {kind} {target} has {shape[1]} x {shape[0]} pixels, its photograph {Path(photograph).name} has "
            f"{width} x {height}: make them alike, and a {kind} smaller or larger only by nearest neighbour"
        )


def _key(name: str, ending: str) -> str | None:
    """What a photograph and its target share; None for a file of another ending."""
    if ending:
        return name.removesuffix(ending) if name.endswith(ending) else None
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.rpartition(".")[0]
