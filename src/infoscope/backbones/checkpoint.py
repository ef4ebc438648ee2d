"""A checkpoint in Hugging Face layout, given by directory or hub id; weights are read from safetensors only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from infoscope.backbones.preprocessing import FILES as PREPROCESSOR_FILES
from infoscope.errors import InfoscopeError, few, first_line, shown
from infoscope.runtime.arrays import read_safetensors
from infoscope.runtime.file_states import file_states
from infoscope.runtime.hub import is_hub_id
from infoscope.runtime.json_values import read_json

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Checkpoint:
    """The files of one model.

    Attributes:
        name: the path or hub id it was asked for by.
        revision: commit on the hub, ``None`` for a local directory.
        directory: where the files lie.
        config: the content of ``config.json``.
        weight_files: the safetensors files, in order of their names.
    """

    name: str
    revision: str | None
    directory: Path
    config: dict[str, Any]
    weight_files: tuple[Path, ...]

    def read_weights(self) -> dict[str, torch.Tensor]:
        """All tensors by name, on the CPU and in the precision they are stored in.

        Raises:
            InfoscopeError: a file is unreadable, cut short or not safetensors, two hold one tensor, or memory is short.
        """
        weights: dict[str, torch.Tensor] = {}
        for path in self.weight_files:
            tensors = read_safetensors(path)
            if twice := sorted(tensors.keys() & weights.keys()):
                raise InfoscopeError(
                    f"{path} holds {few(twice)}, which another file of the model holds too; fetch both again"
                )
            weights |= tensors
        return weights


def find_checkpoint(model: str | Path, revision: str | None = None, *, beside: Sequence[str] = ()) -> Checkpoint:
    """Locate a model's files; a local directory is used as it is and nothing is fetched.

    Args:
        model: a directory, or the id of a model on the Hugging Face hub.
        revision: branch, tag or commit on the hub; the default branch when ``None``.
        beside: names of further files to fetch from the hub, where it has them.

    Raises:
        InfoscopeError: no such model, the hub is out of reach, the directory cannot be read or lacks
            ``config.json`` or safetensors weights, or a revision is given for a local directory.
    """
    try:
        return _find(model, revision, beside)
    except OSError as error:
        raise InfoscopeError(
            f"cannot read {model}: {error.strerror or error}; check its permissions, or fetch it again"
        ) from error


def hash_files(paths: Sequence[Path]) -> str:
    """SHA-256, in hexadecimal, of the files' bytes one after the other.

    Raises:
        InfoscopeError: a file can no longer be read.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name, text in (("1", "in"), ("2", "foscope")):
        ...     _ = (folder / name).write_text(text)
        >>> hash_files([folder / "1", folder / "2"]) == hashlib.sha256(b"infoscope").hexdigest()
        True
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        except OSError as error:
            raise InfoscopeError(
                f"cannot read {path}: {error.strerror or error}; check its permissions, or fetch it again"
            ) from error
    return digest.hexdigest()


def states_of(paths: Sequence[Path]) -> tuple[tuple[int, ...], ...]:
    """Sizes and times of files, which tell later whether the files have changed (see `file_states`)."""
    return tuple(map(tuple, file_states(paths).tolist()))


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256, in hexadecimal, of the safetensors file that tensors would be saved as.

    Example:
        >>> hash_tensors({"a": torch.zeros(2)}) == hash_tensors({"a": torch.zeros(3)})
        False
    """
    # Cloned, since safetensors refuses tensors that share memory.
    return hashlib.sha256(save({name: tensor.cpu().clone() for name, tensor in tensors.items()})).hexdigest()


def _find(model: str | Path, revision: str | None, beside: Sequence[str]) -> Checkpoint:
    directory = Path(model).expanduser()
    commit = None
    if directory.exists():
        if revision is not None:
            raise InfoscopeError(f"{model} is a local directory and has no revision {revision!r}; leave it out")
        if not directory.is_dir():
            raise InfoscopeError(f"{model} is a file; name the directory that holds config.json and the weights")
    elif isinstance(model, str) and is_hub_id(model):
        directory = _fetch(model, revision, beside)
        commit = directory.name
    else:
        raise InfoscopeError(f"no such model: {model}; name a directory, or a hub id like openai/clip-vit-base-patch16")
    if not (directory / _CONFIG).is_file():
        raise InfoscopeError(f"{model} has no config.json; name a model in Hugging Face layout")
    config = read_json(directory / _CONFIG)
    if not isinstance(config, dict):
        raise InfoscopeError(f"{directory / _CONFIG} is not a JSON object; fetch it again")
    return Checkpoint(str(model), commit, directory, config, _weight_files(str(model), directory))


def _weight_files(name: str, directory: Path) -> tuple[Path, ...]:
    """The one safetensors file, or all files that the index names."""
    if (directory / _WEIGHTS).is_file():
        return (directory / _WEIGHTS,)
    if (directory / _INDEX).is_file():
        index = read_json(directory / _INDEX)
        shards = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(shards, dict) or not shards:
            raise InfoscopeError(f"{directory / _INDEX} names no weight files; fetch it again")
        names = sorted(set(map(str, shards.values())))
        if outside := [name for name in names if Path(name).name != name]:
            raise InfoscopeError(
                f"{directory / _INDEX} names {shown(outside[0])}, which is no file beside it; fetch it again"
            )
        files = tuple(directory / name for name in names)
        absent = [file.name for file in files if not file.is_file()]
        if absent:
            raise InfoscopeError(f"{name} lacks {', '.join(absent)}, which {_INDEX} names; fetch the model again")
        return files
    if any(directory.glob("*.bin")):
        raise InfoscopeError(
            f"{name} has its weights only as a pickle (.bin), which infoscope never opens; save the model as "
            "safetensors with transformers' save_pretrained"
        )
    raise InfoscopeError(f"{name} has no {_WEIGHTS}; name a model whose weights are stored as safetensors")


def _fetch(model: str, revision: str | None, beside: Sequence[str]) -> Path:
    """The hub's snapshot of the files that are needed, from the cache where it has them."""
    from huggingface_hub import snapshot_download

    wanted = [_CONFIG, _WEIGHTS, _INDEX, "model-*-of-*.safetensors", *PREPROCESSOR_FILES, *beside]
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=wanted))
    except Exception as error:  # failures are an open set: offline, gated, no such model or revision
        reason = first_line(error)
        raise InfoscopeError(
            f"{model} is no directory here and the hub does not give it ({reason}); check the name and the network"
        ) from error
