"""Commands in processes of their own that end at a chosen moment of their writing.

The processes are forked from one that has imported the libraries and done nothing with them, so that each takes no
longer than its work.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["infoscope.cli.main", "killing_imports", "polars", "torch", "transformers", "scipy.stats", "sklearn.linear_model"]
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


def _child(words, at, number, told, log):
    from infoscope.cli.main import main

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
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(log).open("a") as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        status = main(words)
    sys.exit(status)


def files_below(folder):
    """Every file's content by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
