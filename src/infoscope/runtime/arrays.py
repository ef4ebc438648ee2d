"""Files of arrays and tensors. Their headers are checked before memory is allocated for what they declare."""

from __future__ import annotations

import math
import os
import tokenize
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from infoscope.errors import InfoscopeError, first_line, no_memory_to, ran_out_of_memory, shown

# numpy parses a header as Python, so a broken one raises whatever Python raises.
_RAISED = (EOFError, SyntaxError, TypeError, OverflowError, RecursionError, tokenize.TokenError)


def read_array(path: Path) -> np.ndarray:
    """The array in an ``.npy`` file that holds numbers.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, holds objects, or is not of the size that its header says.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.npy"
        >>> np.save(file, np.arange(3))
        >>> read_array(file).tolist()
        [0, 1, 2]
        >>> _ = file.write_bytes(file.read_bytes()[:-1])
        >>> read_array(file)
        Traceback (most recent call last):
        ...
        ValueError: its header says 24 bytes of numbers, and there are 23
    """
    try:
        with path.open("rb") as stream:
            version = npy.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise ValueError("its header is of a version that numbers alone never need")
            try:
                read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read_header(stream)
            except MemoryError as error:  # raised by Python's parser for text that is nested too deeply
                raise ValueError("its header cannot be understood") from error
            if dtype.hasobject or dtype.names:
                raise ValueError("it holds objects, not numbers")
            if any(side < 0 for side in shape):
                raise ValueError("a side of it is negative")
            # Compared before memory is allocated, because a header may declare any size.
            there, said = os.fstat(stream.fileno()).st_size - stream.tell(), math.prod(shape) * dtype.itemsize
            if there != said:
                raise ValueError(f"its header says {said} bytes of numbers, and there are {there}")
            stream.seek(0)
            return np.asarray(np.load(stream, allow_pickle=False))
    except _RAISED as error:
        raise ValueError(first_line(error)) from error


def read_npy(path: Path, problem: str = "is not a readable .npy file", remedy: str = "write it again") -> np.ndarray:
    """Read an array as `read_array` does, with a line for the user where the file is broken.

    Args:
        path: the file.
        problem: what to say of a file that is broken.
        remedy: what to do about it.

    Raises:
        InfoscopeError: the file is broken, holds objects, or is not of the size that its header says; memory is short.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "array.npy"
        >>> np.save(file, np.ones(2))
        >>> read_npy(file)
        array([1., 1.])
    """
    try:
        return read_array(path)
    except (OSError, ValueError, MemoryError) as error:
        if ran_out_of_memory(error):
            raise no_memory_to(f"read {path}") from error
        reason = first_line(error)
        raise InfoscopeError(f"{path} {problem} ({reason[:200]}); {remedy}") from error


def read_safetensors(path: Path, remedy: str = "fetch it again") -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU, in the precision they are stored in.

    Args:
        path: the file.
        remedy: what to do about a file that is broken.

    Raises:
        InfoscopeError: the file is missing or not a regular one, cut short, broken or of another kind, or memory is
            short.

    Example:
        >>> import tempfile, torch
        >>> from safetensors.torch import save_file
        >>> path = Path(tempfile.mkdtemp()) / "sae.safetensors"
        >>> save_file({"b_dec": torch.ones(2)}, path)
        >>> read_safetensors(path)
        {'b_dec': tensor([1., 1.])}
        >>> _ = path.write_bytes(b"no")
        >>> try:
        ...     read_safetensors(path)
        ... except InfoscopeError as error:
        ...     print("cut short or not a safetensors file" in str(error))
        True
    """
    if not path.is_file():
        raise InfoscopeError(f"{path.parent} has no file {path.name}; {remedy}")
    try:
        return load_file(path)
    except Exception as error:  # a header that lies makes the library and torch fail in many ways
        raise unreadable(path, error, remedy) from error


def unreadable(path: Path, error: Exception, remedy: str = "fetch it again") -> InfoscopeError:
    """The line for an error that reading a safetensors file raised: memory is short, or the file is broken.

    Example:
        >>> str(unreadable(Path("sae.safetensors"), OSError(12, "Cannot allocate memory")))
        'there is not enough memory to read sae.safetensors; close other programs, or use a machine with more'
    """
    if ran_out_of_memory(error):
        return no_memory_to(f"read {path}")
    reason = first_line(error) if isinstance(error, SafetensorError | OSError) else shown(str(error))
    return InfoscopeError(f"{path} is cut short or not a safetensors file ({reason[:200]}); {remedy}")
