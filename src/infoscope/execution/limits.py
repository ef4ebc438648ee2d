"""How many cores computations take, and which pool of threads they come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import torch

# Where the wheels of numpy and scipy keep a BLAS of their own. Elsewhere (conda's MKL) torch shares it.
_OWN = ("numpy.libs", "scipy.libs", ".dylibs")


def limit_threads(threads: int) -> None:
    """Have this thread's computations share ``threads`` cores, as several processes on one machine must.

    Example:
        >>> before = torch.get_num_threads()
        >>> limit_threads(1)
        >>> torch.get_num_threads(), numba.get_num_threads()
        (1, 1)
        >>> limit_threads(before)
    """
    # numba's first: as its threads start, they set the number of torch's to that of all cores.
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(threads)
    _own_blas().limit(limits=threads)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Have numpy's and scipy's linear algebra use the calling thread alone.

    Each has a pool of threads beside torch's, and threads that wait spin: where small products of one alternate with
    torch's, they take the cores from each other, and on a busy machine a step takes ten times as long. It holds for the
    whole process, so enter it from one thread at a time, and import scipy's module first.

    Example:
        >>> import numpy as np
        >>> with one_blas_thread():
        ...     np.linalg.eigvalsh(np.eye(2)).tolist()
        [1.0, 1.0]
    """
    with _own_blas().limit(limits=1):
        yield


def _own_blas() -> Any:
    from threadpoolctl import ThreadpoolController

    # Asked anew each time, in milliseconds, because scipy's library is loaded with its first module that needs it.
    controller = ThreadpoolController()
    own = [
        each["filepath"]
        for each in controller.info()
        if each["user_api"] == "blas" and any(part in _OWN for part in Path(each["filepath"]).parts)
    ]
    return controller.select(filepath=own)
