"""From a directory, a file or a hub id to an SAE in canonical form, whichever project wrote it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

import torch

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.formats import (
    choosing,
    clip_scope,
    dictionary_learning,
    infoscope,
    overcomplete,
    patchsae,
    prisma,
    refused,
    saelens,
    saev,
    sparsify,
)
from infoscope.dictionaries.formats.files import TorchFile, open_torch_file
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
    """What a module offers whose SAEs are directories with files of fixed names."""

    @property
    def FILES(self) -> tuple[str, ...]:  # noqa: N802 - a module's constant
        """The names of its files."""

    @property
    def BESIDE(self) -> tuple[str, ...]:  # noqa: N802
        """Those of further files that are read where they are there."""

    def recognises(self, names: Collection[str]) -> bool:
        """Whether a directory with files of these names looks like this format, whole or broken."""

    def read(self, directory: Path, name: str) -> SparseAutoencoder:
        """The SAE in a directory, on the CPU."""
        ...


@runtime_checkable
class TorchFormat(Protocol):
    """What a module offers whose SAEs are torch files, known by what is in them."""

    def recognises(self, file: TorchFile) -> bool:
        """Whether the file is of this format."""
        ...

    def read(self, file: TorchFile, k: int | None) -> SparseAutoencoder:
        """The SAE in a file, on the CPU; ``k`` for one that does not say its own."""
        ...


DIRECTORIES: tuple[DirectoryFormat, ...] = (infoscope, saelens, sparsify)
# In this order: what is refused would otherwise look like nothing known.
TORCH_FILES: tuple[TorchFormat, ...] = (
    saev, refused, clip_scope, patchsae, prisma, dictionary_learning, overcomplete,
)  # fmt: skip


def load_sae(path: str | Path, device: str | torch.device = "cpu", *, k: int | None = None) -> SparseAutoencoder:
    """Load a sparse autoencoder of this or another project.

    The format follows from the files and, in torch files, from what is in them; ``docs/sae-formats.md`` lists them. Of
    several checkpoints of one run the last is taken. Nothing in a pickle is ever run, and what exists here is never
    looked up on the network.

    Args:
        path: a directory, a torch file, or ``owner/name`` or ``owner/name/folder`` on the Hugging Face hub.
        device: where to put the weights.
        k: how many codes a token keeps, for a file that does not say (overcomplete).

    Raises:
        InfoscopeError: there is no such SAE, or several; its format is unknown, or does not say enough to give the same
            codes; its files are broken; or it says another k.

    Example:
        >>> load_sae("no/such/directory/./sae")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such SAE: no/such/directory/./sae; name a directory that `infoscope train`
        wrote, a torch file, or a hub id like owner/name or owner/name/folder
    """
    place = Path(path).expanduser()
    name = str(path)
    try:
        if not place.exists():
            place = _fetch(name)
        files = [place] if place.is_file() else sorted(choosing.files_below(place))
        before = file_states(files)
        sae = _read_torch(place, name, k) if place.is_file() else _read_directory(place, name, k)
        # What safetensors gives is the file itself, mapped: written to later, it would change the SAE under its user.
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
        name, sae.format, place, sae.features, sae.W_enc.shape[0], sae.activation,
    )  # fmt: skip
    if (file_states(files) != before).any():
        raise InfoscopeError(f"the files of SAE {name} changed while they were read; load it again")
    return sae


def _read_directory(directory: Path, name: str, k: int | None) -> SparseAutoencoder:
    found = _find({file.relative_to(directory).as_posix() for file in choosing.files_below(directory)}, name)
    folder = directory / found.folder
    for candidate in DIRECTORIES:
        if candidate.recognises(found.names):
            return candidate.read(folder, name)
    return _read_torch(folder / found.names[0], name, k)


def _read_torch(path: Path, name: str, k: int | None) -> SparseAutoencoder:
    if path.suffix not in choosing.TORCH_SUFFIXES:
        raise InfoscopeError(f"{name} is a file, and no torch file; name the directory that holds the SAE")
    file = open_torch_file(path, name)
    for candidate in TORCH_FILES:
        if candidate.recognises(file):
            return candidate.read(file, k)
    if {"W_enc", "W_dec"} <= file.tensors.keys():
        raise InfoscopeError(
            f"{path} holds weights and no configuration, so how it encodes is not known; put its config.json beside it"
        )
    held = sorted(file.tensors) or sorted(file.content)
    raise InfoscopeError(f"{path} is of no known format: it holds {few(held)}; docs/sae-formats.md lists what is read")


def _find(files: Collection[str], name: str) -> choosing.Choice:
    """Which of the files, by their paths in the directory, are the SAE."""
    choices = choosing.choose(files, DIRECTORIES)
    if not choices:
        wanted = ", ".join([*(candidate.FILES[-1] for candidate in DIRECTORIES), "*.pt"])
        raise InfoscopeError(f"{name} holds no SAE of a known format (no {wanted}); name an SAE directory")
    if len(choices) > 1:
        raise InfoscopeError(
            f"{name} holds several SAEs: {few([choice.folder for choice in choices])}; name one, as {name}/"
            f"{choices[0].folder}"
        )
    if choices[0].ambiguous:
        where = f"{name}/{choices[0].folder}".rstrip("/.")
        raise InfoscopeError(f"{where} holds several torch files: {few(choices[0].names)}; name one of them")
    return choices[0]


def _fetch(name: str) -> Path:
    """The hub's snapshot of the files of one SAE, from the cache where it has them."""
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
        except Exception:  # offline: what was fetched before may do
            return Path(snapshot_download(repository, local_files_only=True)) / inside
        wanted = _wanted(listed, inside, name)
        return Path(snapshot_download(repository, allow_patterns=wanted)) / inside
    except InfoscopeError:
        raise
    except Exception as error:  # the network's failures are an open set: offline, gated, no such repository
        reason = first_line(error)
        raise InfoscopeError(
            f"no such SAE: {name} is no directory here and the hub does not give it ({reason}); "
            "check the name and the network"
        ) from error


def _wanted(listed: Collection[str], inside: str, name: str) -> list[str]:
    """The files of a repository to fetch: those of the one SAE that the name stands for."""
    if inside in listed:
        beside = str(PurePosixPath(inside).with_name("config.json"))
        return [inside, *([beside] if beside in listed else [])]
    prefix = f"{inside}/" if inside else ""
    files = {file.removeprefix(prefix) for file in listed if file.startswith(prefix)}
    if not files:
        raise InfoscopeError(f"no such SAE: the repository of {name} has no {inside}; check the name")
    found = _find(files, name)
    return [str(PurePosixPath(inside, found.folder, file)) for file in (*found.names, *found.beside)]
