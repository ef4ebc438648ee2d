"""How passes over images are run: batches, threads, shards, where, and on how many cores."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Literal

from infoscope.errors import InfoscopeError
from infoscope.runtime.typed import Positive, check_fields

# OpenMP's own variable, which its libraries read as they are loaded. By default threads that wait for work spin, and
# torch and numba bring a pool each: on few cores, or busy ones, the one then starves the other.
WAITING, PASSIVE = "OMP_WAIT_POLICY", "passive"

_LOGGER = logging.getLogger(__name__)


def available_cores() -> int:
    """Cores that this process may run on, which in a container or under ``taskset`` are fewer than the machine's.

    Example:
        >>> available_cores() >= 1
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wait_passively() -> None:
    """Make the threads of this process, and of those it starts, sleep while they wait, unless the user has chosen.

    Only the owner of the process may decide this: the command line does, and the library does not. It has an effect
    only before torch is loaded, so nothing is set after that.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(WAITING, PASSIVE)


@cache
def note_waiting() -> None:
    """Log once how to make waiting threads sleep, if nobody chose before torch was loaded."""
    if WAITING not in os.environ and "torch" in sys.modules:
        _LOGGER.debug(
            "torch was loaded while %s was not set, so its threads spin while they wait and may take the cores from "
            "other work: set %s=%s before Python starts, or before torch is imported",
            WAITING,
            WAITING,
            PASSIVE,
        )


@dataclass(frozen=True)
class Execution:
    """How the passes run; none of it changes a result.

    Raises:
        InfoscopeError: an option is out of range, or belongs to another executor.

    Example:
        >>> Execution(batch_size=4).shard_images
        1024
        >>> Execution(workers=2)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --workers belongs to --executor ray; give that too, or leave it out
    """

    batch_size: Positive | None = None
    """Views per forward pass (a picture has two crops); limits memory. Default: 8 on a CPU, 64 on a GPU."""
    threads: Positive | None = None
    """Threads that decode images ahead of the model. Default: one per core, at most 8."""
    shard_images: Positive = 1024
    """Images per shard, the most work that a killed run can lose. Our choice: a minute or two of work on two cores."""
    executor: Literal["local", "ray"] = "local"
    """local (this process) or ray (a process for each worker, on this machine or a cluster)."""
    workers: Positive | None = None
    """Under ray: how many workers. Default: one per GPU, or one for every four CPU cores."""
    address: str | None = None
    """Under ray: the address of a running cluster, or auto. Default: one of its own on this machine."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("workers", "address"):
            if self.executor == "local" and getattr(self, name) is not None:
                raise InfoscopeError(f"--{name} belongs to --executor ray; give that too, or leave it out")

    @property
    def here(self) -> Execution:
        """The same in this process, for the parts of a job that are not spread over workers."""
        return replace(self, executor="local", workers=None, address=None)


def run_here(execution: Execution | None, options: dict[str, Any]) -> Execution:
    """How something runs that this process does alone; ``options`` by name come before those of ``execution``.

    Raises:
        InfoscopeError: Ray was asked for.
        TypeError: an option has no such name.

    Example:
        >>> run_here(Execution(batch_size=4), {"threads": 2})
        Execution(batch_size=4, threads=2, shard_images=1024, executor='local', workers=None, address=None)
    """
    execution = replace(execution or Execution(), **options)
    if execution.executor != "local":
        raise InfoscopeError(
            f"--executor {execution.executor} is for measurements; this runs in one process: leave the option out"
        )
    return execution


def split_options(
    kind: type, execution: Execution | None, options: dict[str, Any], *, ray: bool = False
) -> tuple[dict[str, Any], Execution]:
    """Part options by name into those of a configuration and those of an execution, which has them put in.

    Args:
        kind: the class of the configuration, a dataclass; a name that both have is the configuration's.
        execution: how passes run; the defaults where None.
        options: they come before those of ``execution``.
        ray: whether the work can be done on Ray; otherwise it is refused, as by `run_here`.

    Returns:
        What is left for the configuration, and the execution.

    Raises:
        InfoscopeError: an option is out of range, or Ray was asked for where it cannot be used.

    Example:
        >>> from dataclasses import make_dataclass
        >>> config = make_dataclass("Config", [("top_images", int)])
        >>> own, execution = split_options(config, None, {"top_images": 8, "batch_size": 4})
        >>> own, execution.batch_size
        ({'top_images': 8}, 4)
    """
    running = {field.name for field in fields(Execution)} - {field.name for field in fields(kind)}
    own = {name: value for name, value in options.items() if name not in running}
    running_options = {name: value for name, value in options.items() if name in running}
    execution = replace(execution or Execution(), **running_options)
    return own, execution if ray else run_here(execution, {})
