"""How many cores this process may use, and how its threads wait for work."""

import logging
import os
import sys
from functools import cache

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
    """Have this process's threads, and those of processes it starts, sleep while they wait, unless somebody chose.

    Only who owns the process may say so: the command line does, and the library does not. It counts only before torch
    is loaded, so afterwards nothing is set.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(WAITING, PASSIVE)


@cache
def note_waiting() -> None:
    """Tell the log once how to have threads sleep while they wait, where nobody chose before torch was loaded."""
    if WAITING not in os.environ and "torch" in sys.modules:
        _LOGGER.debug(
            "torch was loaded while %s was not set, so its threads spin while they wait and may take the cores from "
            "other work: set %s=%s before Python starts, or before torch is imported",
            WAITING,
            WAITING,
            PASSIVE,
        )
