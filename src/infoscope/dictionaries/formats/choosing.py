"""Which files of a directory, here or on the hub, are an SAE: by their names alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from infoscope.dictionaries.formats.files import latest

TORCH_SUFFIXES = (".pt", ".pth")
# Files that only an SAE has, in the order in which they are looked for; the run's last checkpoint where there are many.
_TORCH_NAMES = (r"sae\.pt", r"ae\.pt", r"weights\.pt", r"out\.pt", r"n_images_\d+\.pt", r"\d+\.pt")
_BESIDE = "config.json"
# What trainers keep beside an SAE to go on from, and logs of it.
_TRAINERS = re.compile(
    r"(.*_)?(state|optimi[sz]er|optim|(lr_)?scheduler|rng_state|scaler|training_args)(_?\d+)?\.pth?"
    r"|.*_log_feature_sparsity\.pt"
)
# Below this the hookpoints of a run lie, or a trainer's checkpoints.
_DEPTH = 3


@runtime_checkable
class _Names(Protocol):
    @property
    def FILES(self) -> tuple[str, ...]: ...  # noqa: N802 - a module's constant

    @property
    def BESIDE(self) -> tuple[str, ...]: ...  # noqa: N802

    def recognises(self, names: Collection[str]) -> bool: ...


@dataclass(frozen=True)
class Choice:
    """The files of one SAE.

    Attributes:
        folder: where they lie in the directory; ``.`` for itself.
        names: their names: of a directory format all, else the torch file, or those among which none can be chosen.
        beside: further files that are read where they are there.
        ambiguous: whether ``names`` are several torch files.
        sure: whether the names alone say that it is an SAE.
    """

    folder: str
    names: tuple[str, ...]
    beside: tuple[str, ...] = ()
    ambiguous: bool = False
    sure: bool = True


def choose(files: Collection[str], formats: Sequence[_Names]) -> list[Choice]:
    """The SAEs among some files: the one in the directory itself, else all those in folders below.

    Args:
        files: paths in the directory, with slashes.
        formats: those known by the names of their files.

    Example:
        >>> [choice.names for choice in choose(["n_images_90.pt", "n_images_100.pt", "config.json"], [])]
        [('n_images_100.pt',)]
        >>> [choice.folder for choice in choose(["a/sae.pt", "b/sae.pt"], [])]
        ['a', 'b']
    """
    folders: dict[str, set[str]] = {}
    for file in files:
        path = PurePosixPath(file)
        folders.setdefault(str(path.parent), set()).add(path.name)
    choices = [choice for folder, names in folders.items() if (choice := _of(folder, names, formats))]
    # Torch files of any name, where there are SAEs, are their trainer's.
    if any(choice.sure for choice in choices):
        choices = [choice for choice in choices if choice.sure]
    taken = {choice.folder for choice in choices}
    # What lies below an SAE, such as earlier checkpoints, is the SAE's.
    top = [choice for choice in choices if not taken & {str(parent) for parent in PurePosixPath(choice.folder).parents}]
    return sorted(top, key=lambda choice: _natural(choice.folder))


def files_below(directory: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """The files of a directory and of the folders below it, down to some depth; hidden ones are left out."""
    for entry in sorted(directory.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and depth:
            yield from files_below(entry, depth - 1)
        elif entry.is_file():  # a pipe would be waited for
            yield entry


def _of(folder: str, names: Collection[str], formats: Sequence[_Names]) -> Choice | None:
    for candidate in formats:
        if candidate.recognises(names):
            return Choice(folder, candidate.FILES, tuple(name for name in candidate.BESIDE if name in names))
    beside = (_BESIDE,) if _BESIDE in names else ()
    for pattern in _TORCH_NAMES:
        if matching := [name for name in names if re.fullmatch(pattern, name)]:
            last = latest(Path(name) for name in matching)
            return Choice(folder, (matching[0] if last is None else last.name,), beside)
    torch_files = sorted(name for name in names if name.endswith(TORCH_SUFFIXES) and not _TRAINERS.fullmatch(name))
    if not torch_files:
        return None
    return Choice(folder, tuple(torch_files), beside, ambiguous=len(torch_files) > 1, sure=False)


def _natural(folder: str) -> list[tuple[int, str]]:
    """``layers.9`` before ``layers.10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", folder)]
