"""Torch files read without running anything that is in them.

A pickle is a program: it names functions to be called while it is read. Here only tensors and plain data come alive.
Every other name in the file becomes an inert object that keeps what it was called with, so that a pickled configuration
reads as a dictionary and a pickled module as a state dict, whatever package they come from.
"""

from __future__ import annotations

import collections
import io
import pickle
import types
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infoscope.errors import InfoscopeError

_ADVICE = "fetch it again, or name another file"


class Inert:
    """What stands for an object of any class but the few that are allowed: its name, arguments and state, as data."""

    kind = "object"
    """The class or function that the file names, with its module."""

    args: tuple[Any, ...]
    state: dict[Any, Any]

    def __new__(cls, *args: Any, **_: Any) -> Any:
        """Kept, not called."""
        self = super().__new__(cls)
        self.args = args
        self.state = {}
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing: the arguments are kept already."""

    def __setstate__(self, state: Any) -> None:
        """Attributes, in a dictionary or in a pair of dictionaries."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, Mapping):
                self.state.update(part)

    def __call__(self, *args: Any) -> Inert:
        """A call of what a call gave is kept too."""
        return type(self)(*args)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Entries of a class made from dict."""
        self.state[key] = value

    def append(self, value: Any) -> None:
        """Entries of a class made from list or set."""
        self.args = (*self.args, value)

    add = append

    def extend(self, values: Any) -> None:
        """Entries of a class made from list."""
        self.args = (*self.args, *values)


def load_torch(file: io.BufferedReader | io.BytesIO, path: Path) -> Any:
    """What a torch file holds: tensors and plain data, and `Inert` objects for the rest.

    Args:
        file: open at the first byte of what torch wrote.
        path: the file's name, for messages.

    Raises:
        InfoscopeError: it is no torch file, is cut short or broken, or holds compiled code.

    Example:
        >>> buffer = io.BytesIO()
        >>> torch.save({"k": 32, "path": Path("a/b")}, buffer)
        >>> held = load_torch(io.BytesIO(buffer.getvalue()), Path("sae.pt"))
        >>> held["k"], held["path"].kind, plain(held["path"])
        (32, 'pathlib.PosixPath', ['a', 'b'])
    """
    start = file.read(4)
    file.seek(-len(start), io.SEEK_CUR)
    # Torch also opens tar archives and compiled modules; neither is a way to publish an SAE.
    if start[:1] != b"\x80" and start != b"PK\x03\x04":
        raise InfoscopeError(f"{path} is not a torch file; {_ADVICE}")
    try:
        if start == b"PK\x03\x04":
            _check_zip(file, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # storages of old files, sources of classes that are not looked for
            return torch.load(file, map_location="cpu", weights_only=False, pickle_module=_pickle_module())
    except InfoscopeError:
        raise
    except Exception as error:  # a broken file can fail in any way
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InfoscopeError(f"{path} is cut short or not a torch file ({reason[:120]}); {_ADVICE}") from error


def plain(value: Any) -> Any:
    """Containers and inert objects as dictionaries, lists and plain values; tensors stay tensors.

    An object with attributes becomes their dictionary; one without, such as an enumeration's member, its argument, or
    the list of them.

    Example:
        >>> class Point(Inert): ...
        >>> point = Point()
        >>> point.__setstate__({"x": 1, "y": (2, torch.float32)})
        >>> plain([point, Point("top-k"), Point(1, 2)])
        [{'x': 1, 'y': [2, 'torch.float32']}, 'top-k', [1, 2]]
    """
    if isinstance(value, Inert):
        if value.state or not value.args:
            return plain(value.state)
        return plain(value.args[0]) if len(value.args) == 1 else plain(value.args)
    if isinstance(value, type) and issubclass(value, Inert):
        return value.kind
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    return value.detach() if isinstance(value, Tensor) else value


def state_dict_of(module: Inert, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a pickled ``nn.Module`` by the names that its ``state_dict`` would give them."""
    tensors = {}
    for held in ("_parameters", "_buffers"):
        for key, value in (module.state.get(held) or {}).items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}{key}"] = value.detach()
    for key, value in (module.state.get("_modules") or {}).items():
        if isinstance(value, Inert):
            tensors |= state_dict_of(value, f"{prefix}{key}.")
    return tensors


def _check_zip(file: io.BufferedReader | io.BytesIO, path: Path) -> None:
    place = file.tell()
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    file.seek(place)
    if any(name.endswith("constants.pkl") for name in names):
        raise InfoscopeError(f"{path} is a compiled module (TorchScript); save its state_dict instead")


def _restricted(module: str, name: str) -> Any:
    """What a file's global stands for: one of the allowed, else an inert class of that name."""
    if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    if module in ("torch", "torch.cuda") and name.endswith("Storage") and isinstance(getattr(torch, name, None), type):
        return getattr(torch, name)
    if (module, name) in _ALLOWED:
        return _ALLOWED[module, name]
    return type(name.rpartition(".")[2] or "object", (Inert,), {"kind": f"{module}.{name}", "__module__": __name__})


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _reconstruct(kind: Any, *_: Any) -> Inert:
    return kind() if isinstance(kind, type) and issubclass(kind, Inert) else Inert(kind)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1" if encoding == "latin1" else "utf-8")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,  # type: ignore[no-untyped-call, unused-ignore]
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch.storage", "UntypedStorage"): torch.UntypedStorage,
    ("copyreg", "_reconstructor"): _reconstruct,
    ("copy_reg", "_reconstructor"): _reconstruct,
    ("_codecs", "encode"): _encode,
    **{
        (module, kind.__name__): kind
        for module in ("builtins", "__builtin__")
        for kind in (set, frozenset, complex, slice)
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _restricted(module, name)


def _pickle_module() -> types.ModuleType:
    """What torch asks of a pickle module."""
    module = types.ModuleType("infoscope_restricted_pickle")
    module.Unpickler = _Unpickler  # type: ignore[attr-defined]
    module.load = lambda file, **options: _Unpickler(file, **options).load()  # type: ignore[attr-defined]
    return module
