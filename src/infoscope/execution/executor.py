"""Jobs, a worker that does them, and an executor that hands them out: here, in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

from infoscope.execution.partials import Arrays, Partials
from infoscope.progress import Advance

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One shard of a stage.

    Attributes:
        name: of the shard, unlike any other of the run; its result is kept under it.
        size: steps of progress it makes.
        method: the worker's method that does it: a pure function of ``arguments``, called with them and with
            ``advance``. What it returns has ``arrays()``.
        arguments: what the shard is.
    """

    name: str
    size: int
    method: str
    arguments: tuple[Any, ...]

    def run(self, worker: object, advance: Advance) -> Arrays:
        """Have a worker do it."""
        began = time.monotonic()
        arrays: Arrays = getattr(worker, self.method)(*self.arguments, advance).arrays()
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
        >>> from infoscope.measurement.maps import ImageMaps
        >>> class Empty:
        ...     def maps(self, cells, advance):
        ...         advance(1)
        ...         return ImageMaps.empty(cells)
        >>> jobs = [Job("one", size=1, method="maps", arguments=(9,))]
        >>> [int(arrays["cells"][0]) for arrays in LocalExecutor(Empty()).run(jobs, Partials(None), lambda steps: None)]
        [9]
    """

    worker: object

    def run(self, jobs: Sequence[Job], partials: Partials, advance: Advance) -> Iterator[Arrays]:
        """See `Executor`."""
        for job in jobs:
            if job.name in partials:
                _LOGGER.debug("shard %s: finished before", job.name)
                advance(job.size)
            yield partials.get_or_compute(job.name, partial(job.run, self.worker, advance))
