"""How many cores a worker's computations take."""

from __future__ import annotations

import numba
import torch


def limit_threads(threads: int) -> None:
    """Have this thread's computations share ``threads`` cores, as several processes on one machine must.

    Example:
        >>> before = torch.get_num_threads()
        >>> limit_threads(1)
        >>> torch.get_num_threads(), numba.get_num_threads()
        (1, 1)
        >>> limit_threads(before)
    """
    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
