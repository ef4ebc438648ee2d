"""The array in an ``.npy`` file, whose header is looked at before memory is taken for what it says."""

from __future__ import annotations

import math
import os
import tokenize
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from infoscope.errors import InfoscopeError, no_memory_to, ran_out_of_memory

# numpy's reader takes a header for Python, so that what is wrong with it is whatever Python says of it.
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
            except MemoryError as error:  # what Python's parser says of text that is nested too deeply for it
                raise ValueError("its header cannot be understood") from error
            if dtype.hasobject or dtype.names:
                raise ValueError("it holds objects, not numbers")
            if any(side < 0 for side in shape):
                raise ValueError("a side of it is negative")
            # Before memory is asked for: a header may say anything.
            there, said = os.fstat(stream.fileno()).st_size - stream.tell(), math.prod(shape) * dtype.itemsize
            if there != said:
                raise ValueError(f"its header says {said} bytes of numbers, and there are {there}")
            stream.seek(0)
            return np.asarray(np.load(stream, allow_pickle=False))
    except _RAISED as error:
        raise ValueError((str(error) or type(error).__name__).splitlines()[0]) from error


def read_npy(path: Path, problem: str = "is not a readable .npy file", remedy: str = "write it anew") -> np.ndarray:
    """The same, with a line for whoever gave the file.

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
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InfoscopeError(f"{path} {problem} ({reason[:200]}); {remedy}") from error
