"""Commands in processes of their own, killed from outside or at a chosen moment of their writing.

The processes are forked from one that has imported the libraries and done nothing with them, so that each takes no
longer than its work.
"""

import contextlib
import itertools
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["infoscope.cli.main", "polars", "torch", "transformers", "scipy.stats", "sklearn.linear_model", "killing_imports"]
)
# What a file's appearing and vanishing goes through; a process may end before each of them, and after.
MOMENTS = ("replace", "unlink", "fsync", "rmdir", "mkdir")


def run_command(words, at=None, number=signal.SIGKILL, log=os.devnull):
    """Run a command, and send it a signal at one of its moments.

    Args:
        words: of the command.
        at: which moment, from 1; never when None.
        number: the signal.
        log: a file for what it prints.

    Returns:
        Its exit status, negative where a signal ended it, and its moments: what was about to be done, or was done.
    """
    with tempfile.NamedTemporaryFile("r") as told:
        process = CONTEXT.Process(target=_child, args=(list(map(str, words)), at, number, told.name, str(log)))
        process.start()
        process.join()
        return process.exitcode, told.read().splitlines()


def start_command(words, log=os.devnull, largest_file=None):
    """Start a command, to be killed from outside.

    Args:
        words: of the command.
        log: a file for what it prints.
        largest_file: how many bytes a file may have, as if the disk were full after them; no limit when None.

    Returns:
        Its process.
    """
    process = CONTEXT.Process(target=_limited, args=(list(map(str, words)), str(log), largest_file))
    process.start()
    return process


def _limited(words, log, largest_file):
    if largest_file is not None:
        # Python itself would leave bytecode of modules cut off at the limit, which no later process can load.
        sys.dont_write_bytecode = True
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    _run(words, log)


def _child(words, at, number, told, log):
    process, count, telling = os.getpid(), itertools.count(1), Path(told).open("w", buffering=1)  # noqa: SIM115

    def moment(what):
        if os.getpid() == process:
            telling.write(f"{what}\n")
            if next(count) == at:
                os.kill(process, number)

    def watched(name, function):
        def call(*arguments, **options):
            moment(f"before {name}")
            found = function(*arguments, **options)
            moment(f"after {name}")
            return found

        return call

    for name in MOMENTS:
        setattr(os, name, watched(name, getattr(os, name)))
    _run(words, log)


def _run(words, log):
    from infoscope.cli.main import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(log).open("a") as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        status = main(words)
    sys.exit(status)


def files_below(folder):
    """Every file's content by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
