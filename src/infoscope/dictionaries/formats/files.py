"""How the readers of other projects' checkpoints open files, each failure with a clear error."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from infoscope.dictionaries.activations import Activation
from infoscope.dictionaries.formats.accounts import Settings, Tensors, unwrapped
from infoscope.dictionaries.formats.pickles import Inert, load_torch, plain, state_dict_of
from infoscope.dictionaries.sae import SparseAutoencoder, TokenNorm
from infoscope.errors import InfoscopeError, no_memory_to, ran_out_of_memory
from infoscope.runtime.arrays import read_safetensors
from infoscope.runtime.json_values import read_json

# The longest JSON line before torch data that is read; the line of an SAE is a few hundred bytes long.
_HEADER = 2**20


@dataclass(frozen=True)
class TorchFile:
    """The contents of a torch file.

    Attributes:
        path: where it is.
        name: how the user named it.
        content: everything in it, as plain data; a pickled module is in ``tensors`` alone.
        tensors: its state dict, where it is one or a pickled module; a prefix that all names share is removed.
        config: ``config.json`` beside it.
        sha256: the file's SHA-256.
        k: how many codes a token keeps, where the user says so.
        header: the JSON line before the torch data, where there is one.
        module: the pickled module, where the file is one.
    """

    path: Path
    name: str
    content: dict[str, Any]
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    sha256: str
    k: int | None = None
    header: dict[str, Any] | None = None
    module: Inert | None = field(default=None, compare=False)

    def state_dict(self) -> Tensors:
        """The entries of the state dict, to be accounted for."""
        return Tensors(self.tensors if self.module is not None else self.content, self.path)

    def settings(self, harmless: Iterable[str] = ()) -> Settings:
        """``config.json``, to be accounted for."""
        return Settings(self.config, str(self.path.with_name("config.json")), set(harmless))

    def given_k(self) -> int:
        """How many codes a token keeps, for a file that does not say.

        Raises:
            InfoscopeError: the user does not say either.
        """
        if self.k is None:
            raise InfoscopeError(f"SAE {self.name} does not say its k; give it: load_sae(..., k=32)")
        return self.k

    def sae(
        self,
        format: str,
        weights: tuple[Tensor, Tensor, Tensor, Tensor],
        activation: Activation,
        site: dict[str, Any] | None = None,
        token_norm: TokenNorm | None = None,
    ) -> SparseAutoencoder:
        """The SAE of this file.

        Args:
            format: the name of the format.
            weights: ``W_enc``, ``b_enc``, ``W_dec``, ``b_dec``.
            activation: the activation function.
            site: where its tokens come from, when known.
            token_norm: what is done to each token by itself, if anything.

        Raises:
            InfoscopeError: the shapes do not match, or a weight is NaN or infinite.
        """
        names: dict[str, Any] = {"name": self.name, "format": format, "sha256": self.sha256}
        return SparseAutoencoder(*weights, activation, token_norm=token_norm, site=site, **names)


def open_torch_file(path: Path, name: str, k: int | None = None) -> TorchFile:
    """Read a torch file and the configuration beside it.

    Args:
        path: where it is.
        name: how the user named it.
        k: how many codes a token keeps, where the user says so.

    Raises:
        InfoscopeError: the file or its configuration is damaged, it holds neither tensors nor a module, or memory is
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
                stored = load_torch(io.BytesIO(file.read()), path)
            else:
                file.seek(0)
                stored = load_torch(file, path)
    except (MemoryError, OSError) as error:
        if not ran_out_of_memory(error):
            raise
        raise no_memory_to(f"read {path}") from error
    module = _module(stored)
    try:
        content = {} if module is not None else plain(stored)
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
    return TorchFile(path, name, content, tensors, config, digest, k, header, module)


def tensors_of(content: Any) -> dict[str, Tensor]:
    """The entries of a dictionary that are tensors, by the names that they have in the SAE itself."""
    if not isinstance(content, Mapping):
        return {}
    return unwrapped({key: value for key, value in content.items() if isinstance(value, Tensor)})


def transposed(matrix: Tensor) -> Tensor:
    """``[a, b]`` as ``[b, a]``; anything else unchanged, for the check of shapes to name."""
    return matrix.T if matrix.ndim == 2 else matrix


def _module(stored: Any) -> Inert | None:
    """The pickled module, without what compiling or training in parallel wraps around it."""
    while isinstance(stored, Inert) and "_parameters" in stored.state:
        inside = stored.state.get("_modules")
        wrapped = inside.get("_orig_mod", inside.get("module")) if isinstance(inside, dict) else None
        if not isinstance(wrapped, Inert) or not isinstance(inside, dict) or len(inside) != 1:
            return stored
        stored = wrapped
    return None


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InfoscopeError: it is missing, or not a JSON object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InfoscopeError(f"{path} is not a JSON object; fetch the SAE again")
    return value


def read_weights(path: Path) -> Tensors:
    """The tensors of a safetensors file, to be accounted for.

    Raises:
        InfoscopeError: it is missing, damaged or not a safetensors file, or memory is short.
    """
    return Tensors(read_safetensors(path, "fetch the SAE again"), path)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
