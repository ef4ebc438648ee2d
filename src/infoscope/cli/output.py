"""The flags that every command has: what it prints, and how much."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import tyro

from infoscope.errors import InfoscopeError

LOGGER = logging.getLogger("infoscope")
PROGRESS = logging.getLogger("infoscope.progress")
# What a computation may depend on, for --verbose.
PACKAGES = ("torch", "transformers", "numpy", "numba", "polars", "pillow", "scikit-learn", "tyro", "rich")


@dataclass(frozen=True)
class Output:
    """What is printed; the same for every command."""

    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON document in place of text; docs/shell.md lists its keys."""
    quiet: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(aliases=["-q"])] = False
    """Print errors, and where the result is; no progress, no tables."""
    verbose: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(aliases=["-v"])] = False
    """Tell on stderr what is loaded, how long each stage and shard takes, what libraries say, and tracebacks."""

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise InfoscopeError("--quiet and --verbose contradict each other: leave one out")


class _Teller(logging.Handler):
    """Prints on stderr, unless told to be silent, and keeps what was warned of."""

    def __init__(self, silent: bool) -> None:
        super().__init__()
        self.warned: list[str] = []
        self._silent = silent
        self._began = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= logging.WARNING:
            self.warned.append(message)
        if self._silent:
            return
        # Looked up anew: a progress bar puts its own in the place of stderr while it is shown.
        since = f"{time.monotonic() - self._began:.1f} s: " if record.levelno <= logging.DEBUG else ""
        print(f"infoscope: {since}{message}", file=sys.stderr, flush=True)


@contextmanager
def telling(output: Output) -> Iterator[list[str]]:
    """Tell as much as was asked for while a command runs.

    Yields:
        The warnings so far; those to come are added.
    """
    teller = _Teller(output.quiet)
    before = LOGGER.level, PROGRESS.level, LOGGER.propagate
    LOGGER.addHandler(teller)
    LOGGER.setLevel(logging.DEBUG if output.verbose else logging.INFO)
    PROGRESS.setLevel(logging.ERROR if output.quiet else logging.NOTSET)
    LOGGER.propagate = False
    try:
        with warnings.catch_warnings():
            if not output.verbose:
                # The last to be asked, so that -W and PYTHONWARNINGS come first.
                warnings.simplefilter("ignore", append=True)
            if output.verbose:
                LOGGER.debug(versions())
            yield teller.warned
    finally:
        LOGGER.removeHandler(teller)
        LOGGER.setLevel(before[0])
        PROGRESS.setLevel(before[1])
        LOGGER.propagate = before[2]


def versions() -> str:
    """Versions of what is installed; nothing is imported for it."""
    import platform
    from importlib import metadata

    from infoscope import __version__

    found = [f"infoscope {__version__}", f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"{package} missing")
    return ", ".join(found)
