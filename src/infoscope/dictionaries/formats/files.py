"""What the readers of other projects' checkpoints share: files, tensors and configurations, each with clear errors."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from infoscope.dictionaries.formats.pickles import Inert, load_torch, plain, state_dict_of
from infoscope.errors import InfoscopeError
from infoscope.storage.atomic import read_json


@dataclass(frozen=True)
class TorchFile:
    """A torch file, read and taken apart.

    Attributes:
        path: where it lies.
        name: how the user named it.
        content: everything in it, as plain data; a pickled module is in ``tensors`` alone.
        tensors: its state dict, where the file is one, or a pickled module.
        config: ``config.json`` beside it or, for a ``trainer_0``, in it.
        header: the JSON line before the torch data, where there is one.
        module: the pickled module, where the file is one.
        sha256: of the file.
    """

    path: Path
    name: str
    content: dict[str, Any]
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    sha256: str
    header: dict[str, Any] | None = None
    module: Inert | None = field(default=None, compare=False)


def open_torch_file(path: Path, name: str) -> TorchFile:
    """Read a torch file and the configuration beside it.

    Raises:
        InfoscopeError: the file or its configuration is broken, or it holds neither tensors nor a module.
    """
    header = None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        if file.read(1) == b"{":
            file.seek(0)
            header = _header(file.readline(), path)
            held = load_torch(io.BytesIO(file.read()), path)
        else:
            file.seek(0)
            held = load_torch(file, path)
    module = held if isinstance(held, Inert) and "_parameters" in held.state else None
    try:
        content = {} if module is not None else plain(held)
    except RecursionError:
        raise InfoscopeError(f"{path} holds data that contains itself; name another file") from None
    if not isinstance(content, dict):
        raise InfoscopeError(f"{path} holds no state dict and no module; name the file with the SAE's weights")
    tensors = state_dict_of(module) if module is not None else tensors_of(content)
    beside = path.with_name("config.json")
    config = read_object(beside) if beside.is_file() else {}
    return TorchFile(path, name, content, tensors, config, digest, header, module)


def tensors_of(content: Any) -> dict[str, Tensor]:
    """The entries of a dictionary that are tensors."""
    if not isinstance(content, Mapping):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InfoscopeError: it is missing, no JSON, or no object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InfoscopeError(f"{path} is not a JSON object; fetch the SAE again")
    return value


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file.

    Raises:
        InfoscopeError: it is missing, cut short or something else.
    """
    if not path.is_file():
        raise InfoscopeError(f"{path.parent} has no {path.name}; fetch the SAE again")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InfoscopeError(f"{path} is cut short or not a safetensors file ({error}); fetch the SAE again") from error


def take(tensors: Mapping[str, Tensor], keys: Iterable[str], path: Path) -> list[Tensor]:
    """Tensors by name, in float64, in which they are folded.

    Raises:
        InfoscopeError: some are not there, or are not numbers.
    """
    keys = list(keys)
    if absent := [key for key in keys if key not in tensors]:
        raise InfoscopeError(f"{path} lacks {', '.join(absent)}; fetch the SAE again")
    for key in keys:
        if not tensors[key].is_floating_point():
            raise InfoscopeError(
                f"{path}: {key} holds {tensors[key].dtype}, expected floating-point numbers; save it so"
            )
    return [tensors[key].detach().to(torch.float64) for key in keys]


def number(tensors: Mapping[str, Tensor], key: str) -> int | None:
    """A tensor that holds one whole number, if it is there."""
    tensor = tensors.get(key)
    return int(tensor.item()) if tensor is not None and tensor.numel() == 1 else None


def check_sizes(path: Path, W_enc: Tensor, declared: Mapping[str, Any], width: str, features: str) -> None:
    """Refuse weights of another size than the configuration says, where it does.

    Raises:
        InfoscopeError: they differ.
    """
    for key, side in ((width, 0), (features, 1)):
        said = declared.get(key)
        if isinstance(said, int) and said and W_enc.ndim == 2 and W_enc.shape[side] != said:
            raise InfoscopeError(
                f"{path}: W_enc has shape {list(W_enc.shape)} as [width, features], but the configuration says "
                f"{key} {said}; fetch the SAE again"
            )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def latest(files: Iterable[Path]) -> Path | None:
    """The file with the largest number at the end of its name: the last of a run's checkpoints.

    Example:
        >>> latest([Path("n_images_90.pt"), Path("n_images_100.pt")]).name
        'n_images_100.pt'
    """
    numbered = [(int(found.group(1)), file) for file in files if (found := re.search(r"(\d+)$", file.stem))]
    return max(numbered)[1] if numbered else None


def _header(line: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InfoscopeError(f"{path} starts like JSON and is not ({error}); fetch the SAE again") from error
    if not isinstance(value, dict):
        raise InfoscopeError(f"{path} starts with JSON that is no object; fetch the SAE again")
    return value
