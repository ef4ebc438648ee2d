"""The numbers in a torch file: storages by key, checked against the file's size before memory is taken for them."""

from __future__ import annotations

import io
import zipfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infoscope.errors import InfoscopeError

_CHUNK = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A run of numbers in a file.

    Attributes:
        data: its bytes, ``[byte]``.
        dtype: the type of the numbers, where a tensor does not say.
    """

    data: Tensor
    dtype: torch.dtype


class Storages(ABC):
    """The storages of one file."""

    @abstractmethod
    def _bytes(self, key: str, size: int) -> Tensor:
        """The bytes of a storage, ``size`` of them."""

    def __init__(self) -> None:
        self._by_key: dict[str, Storage] = {}

    def get(self, key: str, dtype: torch.dtype, numbers: Any) -> Storage:
        """The storage of a key; always the same object.

        Raises:
            ValueError: the file does not hold as many numbers as it says.
        """
        if not isinstance(numbers, int) or isinstance(numbers, bool) or numbers < 0:
            raise ValueError("a storage of no length")
        size = numbers * dtype.itemsize
        if key not in self._by_key:
            self._by_key[key] = Storage(self._bytes(key, size), dtype)
        storage = self._by_key[key]
        if storage.dtype != dtype or storage.data.numel() != size:
            raise ValueError(f"storage {key[:40]} is described in two ways")
        return storage


class ZipStorages(Storages):
    """The storages of a file in the layout of torch since 1.6, with every checksum compared.

    Args:
        archive: the open archive.
        size: how many bytes the file has.
        path: the file's name, for messages.
        most: the most bytes that the program may have.

    Attributes:
        program: the pickle, which says what the numbers are.

    Raises:
        InfoscopeError: it holds compiled code.
        ValueError: it does not have torch's layout.
    """

    program: bytes

    def __init__(self, archive: zipfile.ZipFile, size: int, path: Path, most: int):
        super().__init__()
        self._archive = archive
        members = archive.infolist()
        self._members = {member.filename: member for member in members}
        if any(name.endswith("constants.pkl") for name in self._members):
            raise InfoscopeError(f"{path} is a compiled module (TorchScript); save its state_dict instead")
        if len(self._members) != len(members):
            raise ValueError("two members have one name")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise ValueError(f"{member.filename[:60]} is compressed, which torch never does")
        # Members that overlap would let a small file stand for a large one.
        if sum(member.file_size for member in members) > size:
            raise ValueError("its members are larger than the file")
        programs = [name for name in self._members if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(programs) != 1:
            raise ValueError("no data.pkl")
        self._root = programs[0].removesuffix("data.pkl")
        if self._members[programs[0]].file_size > most:
            raise ValueError("it holds more objects beside its tensors than a checkpoint has")
        order = self._members.get(f"{self._root}byteorder")
        if order is not None and self._archive.read(order) != b"little":
            raise ValueError("it was not written on a little-endian machine")
        self.program = self._archive.read(programs[0])
        self._read = {programs[0]}

    def _bytes(self, key: str, size: int) -> Tensor:
        name = f"{self._root}data/{key}"
        member = self._members.get(name)
        if member is None or member.file_size != size:
            there = 0 if member is None else member.file_size
            raise ValueError(f"storage {key[:40]} should have {size:,} bytes and has {there:,}")
        data = torch.empty(size, dtype=torch.uint8)
        view = data.numpy().data
        self._read.add(name)
        with self._archive.open(member) as source:
            done = 0
            # Reading continues past the end, where the checksum is compared.
            while chunk := source.read(_CHUNK):
                view[done : done + len(chunk)] = chunk
                done += len(chunk)
        if done != size:
            raise ValueError(f"storage {key[:40]} ends early")
        return data

    def close(self) -> None:
        """Compare the checksums of members that were not read.

        Raises:
            zipfile.BadZipFile: one differs.
        """
        for name in sorted(self._members.keys() - self._read):
            with self._archive.open(self._members[name]) as source:
                while source.read(_CHUNK):
                    pass


class LegacyStorages(Storages):
    """The storages of a file in the layout before torch 1.6: they follow the pickles, and are filled in at the end.

    Args:
        file: open at its first byte.

    Attributes:
        size: how many bytes follow.
    """

    def __init__(self, file: io.BufferedReader | io.BytesIO):
        super().__init__()
        self._file = file
        start = file.tell()
        self.size = file.seek(0, io.SEEK_END) - start
        file.seek(start)
        self._left = self.size

    def _bytes(self, key: str, size: int) -> Tensor:
        self._left -= size
        if self._left < 0:
            raise ValueError("its storages are larger than the file")
        return torch.empty(size, dtype=torch.uint8)

    def fill(self, keys: Any) -> None:
        """Read the numbers, from the file's present position.

        Args:
            keys: the keys of the storages, in the order in which they follow.

        Raises:
            ValueError: a storage has no numbers, or another number of them than the pickle says.
        """
        if not isinstance(keys, list) or {key for key in keys if isinstance(key, str)} != set(self._by_key):
            raise ValueError("some of its storages have no numbers")
        for key in keys:
            storage = self._by_key[key]
            numbers = int.from_bytes(self._file.read(8), "little", signed=True)
            size = storage.data.numel()
            if numbers * storage.dtype.itemsize != size:
                raise ValueError(f"storage {key[:40]} should have {size:,} bytes")
            view = storage.data.numpy().data
            done = 0
            while done < size and (read := self._file.readinto(view[done : done + _CHUNK])):
                done += read
            if done != size:
                raise ValueError(f"storage {key[:40]} ends early")


def checked_tensor(storage: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor over a storage, in which each entry is a number of its own.

    Args:
        storage: the numbers.
        offset: where in the storage the first entry is.
        size: the tensor's shape.
        stride: how far apart neighbours are in the storage, for each axis.
        dtype: the type of the entries; the storage's by default.

    Raises:
        ValueError: this does not describe a tensor, or it reaches beyond its storage, or it repeats numbers, by which a
            few bytes could become an enormous tensor.

    Example:
        >>> numbers = Storage(torch.arange(6, dtype=torch.float32).view(torch.uint8), torch.float32)
        >>> checked_tensor(numbers, 0, (2, 3), (3, 1)).tolist()
        [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        >>> checked_tensor(numbers, 0, (1000, 1000), (0, 0))
        Traceback (most recent call last):
        ...
        ValueError: a tensor of shape [1000, 1000] repeats the same numbers (stride [0, 0])
    """
    if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor without a storage, a shape or a stride")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(isinstance(one, int) and one >= 0 for one in numbers):
        raise ValueError("a tensor without a storage, a shape or a stride")
    if any(isinstance(one, bool) for one in numbers) or len(size) > 64:
        raise ValueError("a tensor without a storage, a shape or a stride")
    dtype = dtype or storage.dtype
    data = storage.data
    if data.numel() % dtype.itemsize:
        raise ValueError("a storage that is not a whole number of entries")
    there = data.numel() // dtype.itemsize
    if 0 not in size:
        reach = 0
        # Beginning with the smallest stride: each axis must step over everything that the ones before it reach.
        for step, count in sorted((step, count) for count, step in zip(size, stride, strict=True) if count > 1):
            if step <= reach:
                raise ValueError(f"a tensor of shape {list(size)} repeats the same numbers (stride {list(stride)})")
            reach += step * (count - 1)
        if offset + reach >= there:
            raise ValueError(f"a tensor of shape {list(size)} reaches beyond its storage of {there:,} numbers")
    else:
        offset, stride = 0, (1,) * len(size)
        if max(size) > there + 1:
            raise ValueError(f"a tensor of shape {list(size)} without numbers")
        return torch.empty(size, dtype=dtype)
    return data.view(dtype).as_strided(size, stride, offset)
