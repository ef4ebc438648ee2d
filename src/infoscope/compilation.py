"""How the kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[Function], Function]:
    """Compile a kernel that other code calls; it leaves Python's lock, so threads run it side by side.

    Only a kernel with ``parallel=True`` must be called from one thread at a time, and not in a forked child: numba's
    threading layers abort the process otherwise.

    The machine code is kept beside the module, or in the user's cache folder; where neither can be written to, as in a
    read-only container, it is compiled anew in each process (numba itself would refuse to import).

    Args:
        **options: more of ``numba.njit``'s own, such as ``parallel=True``.

    Example:
        >>> @compiled()
        ... def twice(number):
        ...     return 2 * number
        >>> twice(21)
        42
    """

    def compile_with_cache(function: Function) -> Function:
        try:
            kernel: Function = njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:
            kernel = njit(nogil=True, **options)(function)
        return kernel

    return compile_with_cache
