"""Sizes and times of files, by which most changes are told without reading them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Int64

# On a network's disk a file's state is waited for; on a local one threads change nothing.
STATE_THREADS = 8
# Our choices: a chunk is worth handing to a thread, and fewer files are not.
FILES_TO_A_TASK = 1024


def file_states(files: Sequence[str | Path]) -> Int64[np.ndarray, "file state"]:
    """Size, time of change, and time of change of anything about it, of each file; -1 where there is none to be had.

    The last is set by the system alone, so it also tells files that were given the old time again.
    """
    tasks = [files[start : start + FILES_TO_A_TASK] for start in range(0, len(files), FILES_TO_A_TASK)]
    if len(tasks) < 2:
        found: Iterable[list[tuple[int, int, int]]] = map(_states, tasks)
        return _as_array(found)
    with ThreadPoolExecutor(STATE_THREADS, thread_name_prefix="states") as pool:
        return _as_array(pool.map(_states, tasks))


def stamp_files(files: Iterable[str | Path]) -> str:
    """SHA-256 over the size and time of change of files, in order."""
    return stamp_of(file_states(list(files)))


def stamp_of(states: Int64[np.ndarray, "file state"]) -> str:
    """`stamp_files` of files whose `file_states` are known."""
    digest = hashlib.sha256()
    for size, changed, _ in states.tolist():
        # A link to nothing, say: it will be skipped.
        digest.update(b"unreadable\n" if size < 0 else f"{size} {changed}\n".encode())
    return digest.hexdigest()


def digest_states(states: Int64[np.ndarray, "file state"]) -> str:
    """SHA-256 over `file_states`, 64 hex digits."""
    return hashlib.sha256(np.ascontiguousarray(states, "<i8").tobytes()).hexdigest()


def _states(files: Sequence[str | Path]) -> list[tuple[int, int, int]]:
    found = []
    for file in files:
        try:
            status = os.stat(file)  # noqa: PTH116 - a million times, and a Path takes twice as long
        except OSError:
            found.append((-1, -1, -1))
        else:
            found.append((status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return found


def _as_array(found: Iterable[list[tuple[int, int, int]]]) -> Int64[np.ndarray, "file state"]:
    return np.array(list(chain.from_iterable(found)), np.int64).reshape(-1, 3)
