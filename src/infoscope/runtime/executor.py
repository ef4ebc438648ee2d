"""Jobs, and an executor that runs them."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numba
import torch

from infoscope.runtime.compilation import start_threads
from infoscope.runtime.partials import Arrays, Partials
from infoscope.runtime.progress import Advance

# Where the wheels of numpy and scipy keep a BLAS of their own. Elsewhere (conda's MKL) torch shares it.
_OWN = ("numpy.libs", "scipy.libs", ".dylibs")


def limit_threads(threads: int) -> None:
    """Limit this thread's computations to ``threads`` cores, as several processes on one machine need.

    Example:
        >>> before = torch.get_num_threads()
        >>> limit_threads(1)
        >>> torch.get_num_threads(), numba.get_num_threads()
        (1, 1)
        >>> limit_threads(before)
    """
    start_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(threads)
    _own_blas().limit(limits=threads)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Make numpy's and scipy's linear algebra use only the calling thread.

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
    # Looked for anew only when something was imported: scipy's library comes with its first module that needs it, and
    # looking goes through every library of the process, too long for a loop.
    return _own_blas_among(len(sys.modules))


@lru_cache(maxsize=1)
def _own_blas_among(modules: int) -> Any:
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController()
    own = [
        library["filepath"]
        for library in controller.info()
        if library["user_api"] == "blas" and any(part in _OWN for part in Path(library["filepath"]).parts)
    ]
    return controller.select(filepath=own)


Task = Callable[[], None]


@contextmanager
def trailing(aside: bool) -> Iterator[Callable[[Task], None]]:
    """Run tasks in order: at once, or in a background thread that is at most one task behind the caller.

    Args:
        aside: whether to use the background thread. It pays where a device is kept busy meanwhile; on a CPU the tasks
            would only take turns.

    Yields:
        A function that takes a task; it waits for the one before, and raises what that one raised. When the block ends
        all are done.

    Example:
        >>> done = []
        >>> with trailing(aside=True) as follow:
        ...     for number in range(3):
        ...         follow(lambda number=number: done.append(number))
        >>> done
        [0, 1, 2]
    """
    if not aside:
        yield lambda task: task()
        return
    before: list[Future[None]] = []

    def follow(task: Task) -> None:
        if before:
            before.pop().result()
        before.append(pool.submit(task))

    with ThreadPoolExecutor(1, thread_name_prefix="trailing") as pool:
        yield follow
        if before:
            before.pop().result()


_LOGGER = logging.getLogger(__name__)


class HasArrays(Protocol):
    """A result that can be kept as named arrays."""

    def arrays(self) -> Arrays:
        """As named arrays, for a shard's file."""
        ...


@dataclass(frozen=True)
class Job:
    """One shard of a stage.

    Attributes:
        name: of the shard, unlike any other of the run; its result is kept under it.
        size: steps of progress it makes.
        work: does it: a function that can be pickled, called with the worker, ``arguments`` and ``advance``, whose
            result depends on nothing else. What it returns has ``arrays()``.
        arguments: what the shard is.
    """

    name: str
    size: int
    work: Callable[..., HasArrays]
    arguments: tuple[Any, ...]

    def run(self, worker: object, advance: Advance) -> Arrays:
        """Run it on a worker."""
        began = time.monotonic()
        arrays: Arrays = self.work(worker, *self.arguments, advance).arrays()
        _LOGGER.debug("shard %s: %d steps in %.2f s", self.name, self.size, time.monotonic() - began)
        return arrays


@runtime_checkable
class Executor(Protocol):
    """Hands jobs to workers."""

    def run(self, jobs: Sequence[Job], partials: Partials, advance: Advance) -> Iterator[Arrays]:
        """The results in the order of the jobs, whoever did them and when; finished ones are read from ``partials``."""
        ...


@dataclass(frozen=True)
class LocalExecutor:
    """One job after the other, in this process.

    Example:
        >>> from types import SimpleNamespace
        >>> import numpy as np
        >>> def double(worker, number, advance):
        ...     advance(1)
        ...     return SimpleNamespace(arrays=lambda: {"doubled": np.array([2 * number])})
        >>> jobs = [Job("one", size=1, work=double, arguments=(9,))]
        >>> [int(arrays["doubled"][0]) for arrays in LocalExecutor(None).run(jobs, Partials(None), lambda steps: None)]
        [18]
    """

    worker: object

    def run(self, jobs: Sequence[Job], partials: Partials, advance: Advance) -> Iterator[Arrays]:
        """See `Executor`."""
        for job in jobs:
            if job.name in partials:
                _LOGGER.debug("shard %s: finished before", job.name)
                advance(job.size)
            yield partials.get_or_compute(job.name, partial(job.run, self.worker, advance))
