"""Torch files, read without running anything that is in them.

A pickle is a program: it names functions to call while it is read, and objects to alter. Here it can create only
tensors and plain data, and can reach nothing but what it has created itself. Every other name in the file becomes an
inert object that records its arguments, so that a pickled configuration reads as a dictionary and a pickled module as a
state dict, whatever package they come from.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from infoscope.dictionaries.formats.archives import LegacyStorages, Storage, Storages, ZipStorages, checked_tensor
from infoscope.errors import InfoscopeError, first_line, no_memory_to, ran_out_of_memory, shown

_ADVICE = "fetch it again, or name another file"
# The most bytes that a pickle may have beside its tensors; a configuration has thousands. There is a limit because an
# empty list takes one byte in the file and 56 in memory.
_OBJECTS = 8 * 2**20
# How many values a file's data may have once they are written out, where the same list may appear in many places.
_VALUES = 1_000_000
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Inert:
    """The name, arguments and state of an object whose class is not one of the few that are allowed, as data."""

    kind = "object"
    """The class or function that the file names, with its module."""

    state: dict[Any, Any]
    _args: list[Any]

    def __new__(cls, *args: Any, **_: Any) -> Any:
        """Record the arguments instead of calling anything."""
        self = super().__new__(cls)
        self._args = list(args)
        self.state = {}
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        """Do nothing: the arguments are already recorded."""

    @property
    def args(self) -> tuple[Any, ...]:
        """What it was called with, and what was appended to it."""
        return tuple(self._args)

    def __setstate__(self, state: Any) -> None:
        """Record attributes, which come in a dictionary or a pair of dictionaries."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, Mapping):
                self.state.update(part)

    def __call__(self, *args: Any) -> Inert:
        """Record a call of what another call returned, too."""
        return type(self)(*args)

    def extend(self, values: Iterable[Any]) -> None:
        """Record the entries of a class that derives from list or set."""
        self._args.extend(values)


def load_torch(file: io.BufferedReader | io.BytesIO, path: Path) -> Any:
    """The contents of a torch file: tensors and plain data, and `Inert` objects for the rest.

    Args:
        file: open at the first byte of what torch wrote.
        path: the file's name, for messages.

    Raises:
        InfoscopeError: it is not a torch file, is cut short or damaged, or holds compiled code, or memory is short.

    Example:
        >>> buffer = io.BytesIO()
        >>> torch.save({"k": 32, "path": Path("a/b")}, buffer)
        >>> content = load_torch(io.BytesIO(buffer.getvalue()), Path("sae.pt"))
        >>> content["k"], content["path"].kind, plain(content["path"])
        (32, 'pathlib.PosixPath', ['a', 'b'])
    """
    start = file.read(4)
    file.seek(-len(start), io.SEEK_CUR)
    # Torch also opens tar archives and compiled modules, but nobody publishes an SAE as either.
    if start[:1] != b"\x80" and start != b"PK\x03\x04":
        raise InfoscopeError(f"{path} is not a torch file; {_ADVICE}")
    try:
        return _load_zip(file, path) if start == b"PK\x03\x04" else _load_legacy(file)
    except InfoscopeError:
        raise
    except Exception as error:  # a broken file can fail in any way
        if ran_out_of_memory(error):
            raise no_memory_to(f"read {path}") from error
        reason = first_line(error)
        raise InfoscopeError(f"{path} is cut short or not a torch file ({reason[:120]}); {_ADVICE}") from error


def plain(value: Any) -> Any:
    """Containers and inert objects as dictionaries, lists and plain values; tensors stay tensors.

    An object with attributes becomes the dictionary of them. One without, such as a member of an enumeration, becomes
    its argument, or the list of its arguments.

    Raises:
        OverflowError: written out, it would be more than a million values, as where lists hold lists many times over.
        RecursionError: it contains itself, or is nested very deeply.

    Example:
        >>> class Point(Inert): ...
        >>> point = Point()
        >>> point.__setstate__({"x": 1, "y": (2, "torch.float32")})
        >>> plain([point, Point("top-k"), Point(1, 2)])
        [{'x': 1, 'y': [2, 'torch.float32']}, 'top-k', [1, 2]]
    """
    count = 0

    def convert(value: Any) -> Any:
        nonlocal count
        count += 1
        if count > _VALUES:
            raise OverflowError(f"more than {_VALUES:,} values")
        if isinstance(value, Inert):
            if value.state or not value.args:
                return convert(value.state)
            return convert(value.args[0]) if len(value.args) == 1 else convert(value.args)
        if isinstance(value, type) and issubclass(value, Inert):
            return value.kind
        if isinstance(value, Mapping):
            return {key if isinstance(key, str) else _key(key): convert(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [convert(item) for item in value]
        if isinstance(value, _Name | Storage):
            return str(value)
        return value.detach() if isinstance(value, Tensor) else value

    return convert(value)


def state_dict_of(module: Inert) -> dict[str, Tensor]:
    """The tensors of a pickled ``nn.Module`` by the names that its ``state_dict`` would give them.

    Raises:
        OverflowError: it has more than a million modules, as where modules hold modules many times over.
    """
    tensors: dict[str, Tensor] = {}
    waiting = [("", module, 0)]
    count = 0
    while waiting:
        prefix, current, depth = waiting.pop()
        count += 1
        if count > _VALUES or depth > 100:
            raise OverflowError("modules inside modules without end")
        for attribute in ("_parameters", "_buffers"):
            for key, value in _entries(current, attribute):
                if isinstance(value, Tensor):
                    tensors[f"{prefix}{key}"] = value.detach()
        for key, value in _entries(current, "_modules"):
            if isinstance(value, Inert):
                waiting.append((f"{prefix}{key}.", value, depth + 1))
    return tensors


def _entries(module: Inert, attribute: str) -> Iterable[tuple[Any, Any]]:
    value = module.state.get(attribute)
    return value.items() if isinstance(value, Mapping) else ()


def _key(key: Any) -> str:
    return shown(plain(key)) if isinstance(key, Inert | tuple) else str(key)


def _load_zip(file: io.BufferedReader | io.BytesIO, path: Path) -> Any:
    with zipfile.ZipFile(file) as archive:
        storages = ZipStorages(archive, file.seek(0, io.SEEK_END), path, _OBJECTS)
        content = _Unpickler(io.BytesIO(storages.program), storages).load()
        storages.close()
    return content


def _load_legacy(file: io.BufferedReader | io.BytesIO) -> Any:
    """The layout before torch 1.6: five pickles, then the storages' numbers."""
    storages = LegacyStorages(file)
    reader = _Bounded(file, min(_OBJECTS, storages.size))
    magic, protocol, system = (_Unpickler(reader, storages).load() for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise ValueError("it does not begin as a torch file does")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("it was not written on a little-endian machine")
    content = _Unpickler(reader, storages).load()
    storages.fill(_Unpickler(reader, storages).load())
    return content


class _Bounded:
    """A file of which a pickle may read so many bytes, and never more at once than are left."""

    def __init__(self, file: io.BufferedReader | io.BytesIO, size: int):
        self._file, self._left = file, size

    def _take(self, size: int) -> int:
        self._left -= size
        if size < 0 or self._left < 0:
            raise EOFError("its objects go beyond its end, or are more than a checkpoint has")
        return size

    def read(self, size: int) -> bytes:
        return self._file.read(self._take(size))

    def readinto(self, buffer: bytearray) -> int:
        self._take(len(buffer))
        return self._file.readinto(buffer)

    def readline(self) -> bytes:
        line = self._file.readline(self._left)
        self._take(len(line))
        return line


@dataclass(frozen=True, slots=True)
class _Name:
    """A name in the file that has a meaning here: a precision, a kind of storage, or a function that is safe to call.

    It stands for torch's own object, which the file thus never gets hold of.
    """

    name: str
    dtype: torch.dtype | None = None
    call: Callable[..., Any] | None = None

    def __str__(self) -> str:
        return self.name


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> Tensor:
    # The rest says whether a gradient is wanted, then hooks, then marks such as a conjugate's, which change numbers.
    if len(more) > 2 and more[2]:
        raise pickle.UnpicklingError("a tensor is stored as another's conjugate or negative")
    return checked_tensor(storage, offset, size, stride)


def _rebuild_typed(
    storage: Any, offset: Any, size: Any, stride: Any, gradient: Any, hooks: Any, dtype: Any, *more: Any
) -> Tensor:
    if not isinstance(dtype, _Name) or (more and more[0]):
        raise pickle.UnpicklingError("a tensor is stored in a way that is not known")
    return checked_tensor(storage, offset, size, stride, dtype.dtype)


def _rebuild_parameter(data: Any = None, *_: Any) -> Any:
    return data


def _reconstruct(kind: Any = None, *_: Any) -> Inert:
    inert = kind() if isinstance(kind, type) and issubclass(kind, Inert) else Inert(kind)
    assert isinstance(inert, Inert)
    return inert


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1" if encoding == "latin1" else "utf-8")


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    return {_checked_key(key): value for key, value in pairs}


def _set(values: Any = ()) -> set[Any]:
    return {_checked_key(value) for value in values}


def _device(*parts: Any) -> str:
    return ":".join(str(part) for part in parts if isinstance(part, str | int))


def _size(values: Any = ()) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, list | tuple) else ()


_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_typed,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("copyreg", "_reconstructor"): _reconstruct,
    ("copy_reg", "_reconstructor"): _reconstruct,
    ("_codecs", "encode"): _encode,
    **{(module, kind): _set for module in ("builtins", "__builtin__") for kind in ("set", "frozenset")},
}
_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}  # fmt: skip


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, with every step that calls or alters something confined to what the file has created."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    # Attributes that the class has but its published types leave out.
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, file: Any, storages: Storages):
        super().__init__(file, encoding="utf-8")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        """The meaning of a name in the file: one of the known names, or else an inert class of that name."""
        if (module, name) in _CALLS:
            return _Name(f"{module}.{name}", call=_CALLS[module, name])
        if module in ("torch", "torch.cuda", "torch.storage") and name in _STORAGES:
            return _Name(f"{module}.{name}", dtype=_STORAGES[name])
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return _Name(f"{module}.{name}", dtype=getattr(torch, name))
        called = name.rpartition(".")[2].replace("\0", "") or "object"
        return type(called, (Inert,), {"kind": f"{module}.{name}", "__module__": __name__})

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that a torch file refers to."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], _Name):
            raise pickle.UnpicklingError("a storage of a kind that is not known")
        if len(pid) > 5 and pid[5] is not None:
            raise pickle.UnpicklingError("a storage that is part of another")
        if pid[1].dtype is None or not isinstance(pid[2], str):
            raise pickle.UnpicklingError("a storage of a kind that is not known")
        return self._storages.get(pid[2], pid[1].dtype, pid[4])

    def get_extension(self, code: int) -> None:
        """Refuse names that are registered in the process and are not in the file."""
        raise pickle.UnpicklingError(f"extension {code} of another process")

    def _instantiate(self, klass: Any, args: Any) -> None:
        self.append(_called(klass, tuple(args)))

    def _reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        self.append(_called(function, args))

    def _newobj_ex(self) -> None:
        self.stack.pop()  # arguments by name, which an inert object does not record
        self._reduce()

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Inert):
            target.__setstate__(state)
        elif type(target) is not dict:  # an ordered dictionary's own attributes, such as _metadata, are no entries
            raise _untouchable(target)

    def _append(self) -> None:
        value = self.stack.pop()
        self._extend([value])

    def _appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, Inert) and type(target) is not list:
            raise _untouchable(target)
        target.extend(values)

    def _additems(self) -> None:
        values, target = self.pop_mark(), self.stack[-1]
        if isinstance(target, Inert):
            target.extend(values)
        elif type(target) is set:
            target.update(_checked_key(value) for value in values)
        else:
            raise _untouchable(target)

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _setitems(self) -> None:
        self._update(self.pop_mark())

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        entries = target.state if isinstance(target, Inert) else target
        if type(entries) is not dict:
            raise _untouchable(target)
        for key, value in zip(items[::2], items[1::2], strict=True):
            entries[_checked_key(key)] = value

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._update(items)

    def _frozenset(self) -> None:
        self.append(frozenset(_checked_key(value) for value in self.pop_mark()))

    def _bytearray8(self) -> None:
        # Read first, because the file only claims how long it is: memory is not taken for bytes that are not there.
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch |= {
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _reduce,
        pickle.NEWOBJ_EX[0]: _newobj_ex,
        pickle.BUILD[0]: _build,
        pickle.APPEND[0]: _append,
        pickle.APPENDS[0]: _appends,
        pickle.ADDITEMS[0]: _additems,
        pickle.SETITEM[0]: _setitem,
        pickle.SETITEMS[0]: _setitems,
        pickle.DICT[0]: _dict,
        pickle.FROZENSET[0]: _frozenset,
        pickle.BYTEARRAY8[0]: _bytearray8,
    }


def _called(function: Any, args: Any) -> Any:
    if not isinstance(args, tuple):
        raise pickle.UnpicklingError("a call without a list of arguments")
    if isinstance(function, _Name) and function.call is not None:
        return function.call(*args)
    if isinstance(function, Inert) or (isinstance(function, type) and issubclass(function, Inert)):
        return function(*args)
    raise pickle.UnpicklingError(f"a call of {shown(function)}, which is no function")


def _untouchable(target: Any) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f"it alters {type(target).__name__}, which is not made in it")


def _checked_key(key: Any) -> Any:
    """A key or member that is quick to hash; hashing tuples of tuples of tuples can take for ever."""
    parts = key if isinstance(key, tuple) else (key,)
    for part in parts:
        simple = part is None or isinstance(part, str | bytes | int | float | complex | Inert | _Name)
        if not simple and not (isinstance(part, type) and issubclass(part, Inert)):
            raise pickle.UnpicklingError(f"a key of type {type(part).__name__}")
    return key
