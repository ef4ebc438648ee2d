"""How the kernels are compiled, and what is reported meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from typing import Any, TypeVar

from numba import get_num_threads, njit, set_num_threads
from numba.core import event

from infoscope.runtime.execution import note_waiting

Function = TypeVar("Function", bound=Callable[..., Any])

# Our choice: the first kernel is reported at once, later ones at most every other second.
LINE_EVERY_SECONDS = 2.0
_PROGRESS = "infoscope.runtime.progress"


def compiled(**options: Any) -> Callable[[Function], Function]:
    """Compile a kernel that other code calls; it leaves Python's lock, so threads run it side by side.

    Only a kernel with ``parallel=True`` must be called from one thread at a time, and not in a forked child: numba's
    threading layers abort the process otherwise.

    The machine code is kept beside the module, or in the user's cache folder; where neither can be written to, as in a
    read-only container, it is compiled again in each process (numba itself would refuse to import). Compiling takes
    seconds per kernel, so it is reported on stderr like all progress.

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
        return _with_threads(kernel) if options.get("parallel") else kernel

    return compile_with_cache


def _with_threads(kernel: Function) -> Function:
    """A kernel whose first call starts numba's threads by `start_threads`."""

    @wraps(kernel)
    def call(*arguments: Any) -> Any:
        start_threads()
        return kernel(*arguments)

    return call  # type: ignore[return-value]


@cache
def start_threads() -> None:
    """Start numba's threads, and leave torch as many as it has.

    numba's OpenMP layer says, as it starts, how many threads the whole process may use, and torch's are among them: who
    had given torch one thread would have as many as there are cores from the first parallel kernel on.

    Example:
        >>> import torch
        >>> before = torch.get_num_threads()
        >>> start_threads()
        >>> torch.get_num_threads() == before
        True
    """
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    set_num_threads(get_num_threads())
    if torch:
        torch.set_num_threads(before)


class _Teller(event.Listener):  # type: ignore[misc]
    """Reports the kernels that are compiled, which are those without cached machine code.

    numba compiles one function at a time, and a function that another calls inside the other's turn.
    """

    def __init__(self) -> None:
        self._kernels = 0
        self._seconds = 0.0
        self._depth = 0
        self._began = 0.0
        self._told: float | None = None

    def on_start(self, event: Any) -> None:
        """A function is about to be compiled."""
        dispatcher = event.data["dispatcher"]
        # Functions of other packages are not reported.
        if self._depth == 0 and not dispatcher.py_func.__module__.startswith("infoscope."):
            return
        self._depth += 1
        if self._depth > 1:
            return
        self._began = time.monotonic()
        # Kernels lie below the module that reports progress and must not import it, so it is found by name.
        progress = import_module(_PROGRESS)
        due = self._told is None or self._began - self._told >= LINE_EVERY_SECONDS
        if due and not progress.is_silenced():
            progress.tell(self._line(dispatcher.py_func.__name__.strip("_"), dispatcher.stats.cache_path))
            self._told = self._began

    def on_end(self, event: Any) -> None:
        """A function is compiled, or cannot be."""
        if self._depth == 0:
            return
        self._depth -= 1
        if self._depth == 0:
            self._kernels += 1
            self._seconds += time.monotonic() - self._began

    def _line(self, name: str, folder: str | None) -> str:
        if self._told is not None:
            done = "1 kernel" if self._kernels == 1 else f"{self._kernels} kernels"
            return f"Compiling: {done} in {self._seconds:.0f} s, now {name}"
        if folder is not None:
            return f"Compiling once, and kept for later runs: {name}"
        return f"Compiling for this process alone (NUMBA_CACHE_DIR can name a folder to keep it in): {name}"


event.register("numba:compile", _Teller())
# Importing numba has added a second pool of threads to torch's.
note_waiting()
