"""How many cores this process may use."""

import os


def available_cores() -> int:
    """Cores that this process may run on, which in a container or under ``taskset`` are fewer than the machine's.

    Example:
        >>> available_cores() >= 1
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
