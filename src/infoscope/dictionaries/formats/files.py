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

from torch import Tensor

from infoscope.dictionaries.formats.held import Settings, Tensors, unwrapped
from infoscope.dictionaries.formats.pickles import Inert, load_torch, plain, state_dict_of
from infoscope.errors import InfoscopeError, no_memory_to, ran_out_of_memory
from infoscope.runtime.arrays import read_safetensors
from infoscope.runtime.atomic import read_json

# The first line of an SAE is a few hundred bytes.
_HEADER = 2**20


@dataclass(frozen=True)
class TorchFile:
    """A torch file, read and taken apart.

    Attributes:
        path: where it lies.
        name: how the user named it.
        content: everything in it, as plain data; a pickled module is in ``tensors`` alone.
        tensors: its state dict, where the file is one, or a pickled module; a prefix that all names share is left off.
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

    def held(self) -> Tensors:
        """The entries of the state dict, to be accounted for."""
        return Tensors(self.tensors if self.module is not None else self.content, self.path)

    def settings(self, harmless: Iterable[str] = ()) -> Settings:
        """``config.json``, to be accounted for."""
        return Settings(self.config, str(self.path.with_name("config.json")), set(harmless))


def open_torch_file(path: Path, name: str) -> TorchFile:
    """Read a torch file and the configuration beside it.

    Raises:
        InfoscopeError: the file or its configuration is broken, or it holds neither tensors nor a module; memory is
            short.
    """
    header = None
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            if file.read(1) == b"{":
                file.seek(0)
                header = _header(file.readline(_HEADER), path)
                held = load_torch(io.BytesIO(file.read()), path)
            else:
                file.seek(0)
                held = load_torch(file, path)
    except (MemoryError, OSError) as error:
        if not ran_out_of_memory(error):
            raise
        raise no_memory_to(f"read {path}") from error
    module = _module(held)
    try:
        content = {} if module is not None else plain(held)
        tensors = unwrapped(state_dict_of(module)) if module is not None else tensors_of(content)
    except RecursionError:
        raise InfoscopeError(
            f"{path} holds data that contains itself or nests very deeply; name another file"
        ) from None
    except OverflowError as error:
        raise InfoscopeError(f"{path} holds data that grows without end ({error}); name another file") from None
    if not isinstance(content, dict):
        raise InfoscopeError(f"{path} holds no state dict and no module; name the file with the SAE's weights")
    beside = path.with_name("config.json")
    config = read_object(beside) if beside.is_file() else {}
    return TorchFile(path, name, content, tensors, config, digest, header, module)


def tensors_of(content: Any) -> dict[str, Tensor]:
    """The entries of a dictionary that are tensors, by the names that they have in the SAE itself."""
    if not isinstance(content, Mapping):
        return {}
    return unwrapped({key: value for key, value in content.items() if isinstance(value, Tensor)})


def _module(held: Any) -> Inert | None:
    """The pickled module, out of what compiling or training in parallel wraps around it."""
    while isinstance(held, Inert) and "_parameters" in held.state:
        inside = held.state.get("_modules")
        wrapped = inside.get("_orig_mod", inside.get("module")) if isinstance(inside, dict) else None
        if not isinstance(wrapped, Inert) or not isinstance(inside, dict) or len(inside) != 1:
            return held
        held = wrapped
    return None


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InfoscopeError: it is missing, no JSON, or no object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InfoscopeError(f"{path} is not a JSON object; fetch the SAE again")
    return value


def read_weights(path: Path) -> Tensors:
    """The tensors of a safetensors file, to be accounted for.

    Raises:
        InfoscopeError: it is missing, cut short or something else; memory is short.
    """
    return Tensors(read_safetensors(path, "fetch the SAE again"), path)


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
    except RecursionError as error:
        raise InfoscopeError(f"{path} starts with JSON that is nested too deeply; fetch the SAE again") from error
    except ValueError as error:
        raise InfoscopeError(f"{path} starts like JSON and is not ({error}); fetch the SAE again") from error
    if not isinstance(value, dict):
        raise InfoscopeError(f"{path} starts with JSON that is no object; fetch the SAE again")
    return value
