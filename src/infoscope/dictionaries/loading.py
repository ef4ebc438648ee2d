"""From a directory, a file or a hub id to an SAE in canonical form, whichever project wrote it.

Which files are an SAE is decided by their names alone, so that the same code chooses among the files of a directory and
among those that the hub lists.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

import torch

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.formats import (
    clip_scope,
    dictionary_learning,
    infoscope,
    overcomplete,
    patchsae,
    prisma,
    saelens,
    saev,
    sparsify,
)
from infoscope.dictionaries.formats.files import TorchFile, open_torch_file, tensors_of
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.formats.saelens import save_saelens
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError, few, first_line, no_memory_to, ran_out_of_memory
from infoscope.runtime.file_states import file_states
from infoscope.runtime.hub import split_hub_path

__all__ = ["load_sae", "save_sae", "save_saelens"]

_LOGGER = logging.getLogger(__name__)


@runtime_checkable
class DirectoryFormat(Protocol):
    """A module that reads SAEs that are directories with files of fixed names."""

    @property
    def FILES(self) -> tuple[str, ...]:  # noqa: N802 - a module's constant
        """The names of its files."""

    @property
    def BESIDE(self) -> tuple[str, ...]:  # noqa: N802
        """The names of further files, which are read where they are there."""

    def recognises(self, names: Collection[str]) -> bool:
        """Whether a directory with files of these names looks like this format, whole or damaged."""

    def read(self, directory: Path, name: str) -> SparseAutoencoder:
        """The SAE in a directory, on the CPU."""
        ...


@runtime_checkable
class TorchFormat(Protocol):
    """A module that reads SAEs that are torch files, recognised by their contents."""

    def recognises(self, file: TorchFile) -> bool:
        """Whether the file is of this format."""
        ...

    def read(self, file: TorchFile) -> SparseAutoencoder:
        """The SAE in a file, on the CPU."""
        ...


# A new format is a module in `formats` and a place in one of these. The first format that recognises an SAE reads it.
DIRECTORIES: tuple[DirectoryFormat, ...] = (infoscope, saelens, sparsify)
TORCH_FILES: tuple[TorchFormat, ...] = (saev, clip_scope, patchsae, prisma, dictionary_learning, overcomplete)

TORCH_SUFFIXES = (".pt", ".pth")
# Names that only an SAE's torch file has, in the order in which they are looked for.
_TORCH_NAMES = (r"sae\.pt", r"ae\.pt", r"weights\.pt", r"out\.pt", r"n_images_\d+\.pt", r"\d+\.pt")
_TORCH_BESIDE = "config.json"
# Names of what trainers store beside an SAE to resume from, and of their logs.
_TRAINERS = re.compile(
    r"(.*_)?(state|optimi[sz]er|optim|(lr_)?scheduler|rng_state|scaler|training_args)(_?\d+)?\.pth?"
    r"|.*_log_feature_sparsity\.pt"
)
# How far below a directory its SAEs are looked for: a run has folders for hookpoints, and those for checkpoints.
_DEPTH = 3
# The parameters of an MSAE (its sae.py), at the top of the file or under a key.
_MSAE = {"encoder", "pre_bias", "latent_bias"}


def load_sae(path: str | Path, device: str | torch.device = "cpu", *, k: int | None = None) -> SparseAutoencoder:
    """Load a sparse autoencoder of this or another project.

    The format follows from the names of the files and, for torch files, from their contents; ``docs/sae-formats.md``
    lists the formats. Of several checkpoints of one run the last is taken. Nothing in a pickle is ever run, and what
    exists here is never looked up on the network.

    Args:
        path: a directory, a torch file, or ``owner/name`` or ``owner/name/folder`` on the Hugging Face hub.
        device: where to put the weights.
        k: how many codes a token keeps, for a file that does not say (overcomplete).

    Raises:
        InfoscopeError: there is no such SAE, or several; its format is unknown or does not say enough to give the same
            codes; its files are damaged; or it says another k.

    Example:
        >>> load_sae("no/such/directory/./sae")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such SAE: no/such/directory/./sae; name a directory that `infoscope train`
        wrote, a torch file, or a hub id like owner/name or owner/name/folder
    """
    local = Path(path).expanduser()
    name = str(path)
    try:
        if not local.exists():
            local = _fetch(name)
        files = [local] if local.is_file() else sorted(_files_below(local))
        before = file_states(files)
        sae = _read_torch(local, name, k) if local.is_file() else _read_directory(local, name, k)
        # A copy, because safetensors maps the file into memory: writing to it later would change the SAE.
        sae = sae._apply(lambda tensor: tensor.to(device, copy=True))
    except (MemoryError, OSError, RuntimeError) as error:
        if ran_out_of_memory(error):
            raise no_memory_to(f"read SAE {name}") from error
        if not isinstance(error, OSError):
            raise
        raise InfoscopeError(f"cannot read {path}: {error.strerror or error}") from error
    if k is not None and not (isinstance(sae.activation, TopK) and sae.activation.k == k):
        raise InfoscopeError(f"SAE {name} has activation {sae.activation}, not k {k}; leave k out")
    _LOGGER.debug(
        "SAE %s: format %s from %s, %d features of width %d, %s",
        name, sae.format, local, sae.features, sae.W_enc.shape[0], sae.activation,
    )  # fmt: skip
    if (file_states(files) != before).any():
        raise InfoscopeError(f"the files of SAE {name} changed while they were read; load it again")
    return sae


def _read_directory(directory: Path, name: str, k: int | None) -> SparseAutoencoder:
    choice = _choose_one({file.relative_to(directory).as_posix() for file in _files_below(directory)}, name)
    folder = directory / choice.folder
    if choice.format is not None:
        return choice.format.read(folder, name)
    return _read_torch(folder / choice.names[0], name, k)


def _read_torch(path: Path, name: str, k: int | None) -> SparseAutoencoder:
    if path.suffix not in TORCH_SUFFIXES:
        raise InfoscopeError(f"{name} is not a torch file; name the directory that holds the SAE")
    file = open_torch_file(path, name, k)
    if any(tensors.keys() >= _MSAE for tensors in (file.tensors, *map(tensors_of, file.content.values()))):
        raise InfoscopeError(
            f"SAE {name} is of MSAE: it was trained on one embedding of a whole image, so it has no codes of patches "
            "and no maps; name an SAE of patch tokens"
        )
    for candidate in TORCH_FILES:
        if candidate.recognises(file):
            return candidate.read(file)
    if {"W_enc", "W_dec"} <= file.tensors.keys():
        raise InfoscopeError(
            f"{path} holds weights and no configuration, so how it encodes is not known; put its config.json beside it"
        )
    contents = sorted(file.tensors) or sorted(file.content)
    raise InfoscopeError(
        f"{path} is of no known format: it holds {few(contents)}; docs/sae-formats.md lists the formats"
    )


@dataclass(frozen=True)
class Choice:
    """The files of one SAE.

    Attributes:
        folder: where they are in the directory; ``.`` for the directory itself.
        names: all the files of a directory format; otherwise the torch file, or several where none can be chosen.
        beside: further files that are read where they are there.
        format: the directory format; None for torch files.
        sure: whether the names alone tell that this is an SAE.
    """

    folder: str
    names: tuple[str, ...]
    beside: tuple[str, ...]
    format: DirectoryFormat | None = None
    sure: bool = True


def _choose_one(files: Collection[str], name: str) -> Choice:
    """The SAE among some files, by their paths in the directory.

    Raises:
        InfoscopeError: there is none, or more than one.
    """
    choices = choose(files)
    if not choices:
        expected = ", ".join([*(candidate.FILES[-1] for candidate in DIRECTORIES), "*.pt"])
        raise InfoscopeError(f"{name} holds no SAE of a known format (no {expected}); name an SAE directory")
    if len(choices) > 1:
        raise InfoscopeError(
            f"{name} holds several SAEs: {few([choice.folder for choice in choices])}; name one, as {name}/"
            f"{choices[0].folder}"
        )
    (choice,) = choices
    if choice.format is None and len(choice.names) > 1:
        where = f"{name}/{choice.folder}".rstrip("/.")
        raise InfoscopeError(f"{where} holds several torch files: {few(choice.names)}; name one of them")
    return choice


def choose(files: Collection[str]) -> list[Choice]:
    """The SAEs among some files: the one in the directory itself, or else all those in folders below.

    Args:
        files: paths in the directory, with slashes.

    Example:
        >>> [choice.names for choice in choose(["n_images_90.pt", "n_images_100.pt", "config.json"])]
        [('n_images_100.pt',)]
        >>> [choice.folder for choice in choose(["a/sae.pt", "b/sae.pt"])]
        ['a', 'b']
    """
    folders: dict[str, set[str]] = {}
    for file in files:
        path = PurePosixPath(file)
        folders.setdefault(str(path.parent), set()).add(path.name)
    choices = [choice for folder, names in folders.items() if (choice := _choose_in(folder, names))]
    # Beside files that are SAEs by their names, torch files of any other name are their trainer's.
    if any(choice.sure for choice in choices):
        choices = [choice for choice in choices if choice.sure]
    taken = {choice.folder for choice in choices}
    # What is in folders below an SAE belongs to it, such as earlier checkpoints.
    top = [choice for choice in choices if not taken & {str(parent) for parent in PurePosixPath(choice.folder).parents}]
    return sorted(top, key=lambda choice: _natural(choice.folder))


def _choose_in(folder: str, names: Collection[str]) -> Choice | None:
    for candidate in DIRECTORIES:
        if candidate.recognises(names):
            beside = tuple(name for name in candidate.BESIDE if name in names)
            return Choice(folder, candidate.FILES, beside, candidate)
    beside = (_TORCH_BESIDE,) if _TORCH_BESIDE in names else ()
    for pattern in _TORCH_NAMES:
        if matching := [name for name in names if re.fullmatch(pattern, name)]:
            # The number at the end of the name says which checkpoint of the run is the last.
            return Choice(folder, (max(matching, key=_checkpoint),), beside)
    torch_files = sorted(name for name in names if name.endswith(TORCH_SUFFIXES) and not _TRAINERS.fullmatch(name))
    return Choice(folder, tuple(torch_files), beside, sure=False) if torch_files else None


def _checkpoint(name: str) -> tuple[int, str]:
    digits = re.search(r"(\d+)\.", name)
    return int(digits.group(1)) if digits else 0, name


def _natural(folder: str) -> list[tuple[int, str]]:
    """``layers.9`` before ``layers.10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", folder)]


def _files_below(directory: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """The files of a directory and of the folders below it, down to some depth, without hidden ones."""
    for entry in sorted(directory.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and depth:
            yield from _files_below(entry, depth - 1)
        elif entry.is_file():  # reading a pipe would wait for somebody to write to it
            yield entry


def _fetch(name: str) -> Path:
    """The hub's snapshot of the files of one SAE, from the cache where they are in it."""
    split = split_hub_path(name)
    if split is None:
        raise InfoscopeError(
            f"no such SAE: {name}; name a directory that `infoscope train` wrote, a torch file, or a hub id like "
            "owner/name or owner/name/folder"
        )
    from huggingface_hub import HfApi, snapshot_download

    repository, inside = split
    try:
        try:
            listed = HfApi().list_repo_files(repository)
        except Exception:  # offline, the cache may have the files
            return Path(snapshot_download(repository, local_files_only=True)) / inside
        return Path(snapshot_download(repository, allow_patterns=_wanted(listed, inside, name))) / inside
    except InfoscopeError:
        raise
    except Exception as error:  # failures of the network are an open set: offline, gated, no such repository
        reason = first_line(error)
        raise InfoscopeError(
            f"no such SAE: {name} is not a directory here, and the hub does not have it ({reason}); check the name and "
            "the network"
        ) from error


def _wanted(listed: Collection[str], inside: str, name: str) -> list[str]:
    """Which files of a repository to fetch: those of the one SAE that the name refers to."""
    if inside in listed:
        beside = str(PurePosixPath(inside).with_name(_TORCH_BESIDE))
        return [inside, *([beside] if beside in listed else [])]
    prefix = f"{inside}/" if inside else ""
    files = {file.removeprefix(prefix) for file in listed if file.startswith(prefix)}
    if not files:
        raise InfoscopeError(f"no such SAE: the repository of {name} has no {inside}; check the name")
    choice = _choose_one(files, name)
    return [str(PurePosixPath(inside, choice.folder, file)) for file in (*choice.names, *choice.beside)]
