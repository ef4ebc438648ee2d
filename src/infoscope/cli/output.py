"""What every command prints, and how much: its flags, its answer, its exit status."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from infoscope import __version__
from infoscope.errors import InfoscopeError


class Exit(IntEnum):
    """Exit status of ``infoscope``. A process ended by another signal n has 128 + n, as shells say it.

    Example:
        >>> [int(status) for status in Exit]
        [0, 1, 2, 130, 141]
    """

    DONE = 0
    """The command did what was asked; a warning is a finding and no error."""
    FAULT = 1
    """An error that infoscope did not foresee; it ends with a traceback."""
    USER_ERROR = 2
    """Something to mend: the command line, a path, a file, a missing extra, a full disk, too little memory."""
    INTERRUPTED = 130
    """Ctrl-C: 128 + SIGINT."""
    CLOSED_PIPE = 141
    """Whoever read the output stopped: 128 + SIGPIPE, as of any program in `infoscope ... | head`."""


# Our choice: columns of a wide table where nobody's window says how many there are.
WIDE = 240


class PlainConsole(Console):
    """A console that leaves a closed pipe to whoever runs the command."""

    def on_broken_pipe(self) -> None:
        """Go on with the error that is being handled: rich would end the process, with a status of its own."""
        raise


def console(wide: int | None = None) -> Console:
    """Standard output for tables. NO_COLOR, FORCE_COLOR, TERM and COLUMNS are rich's to honour.

    Args:
        wide: columns to take where standard output is no terminal; by default 80.
    """
    return PlainConsole(highlight=False, width=None if wide is None or sys.stdout.isatty() else wide)


def _parse(words: list[str]) -> tuple[int, ...]:
    return tuple(int(word) for word in words[0].split(","))


Numbers = Annotated[
    tuple[int, ...],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT[,INT...]",
        instance_from_str=_parse,
        is_instance=lambda value: isinstance(value, tuple) and all(isinstance(number, int) for number in value),
        str_from_instance=lambda value: [",".join(str(number) for number in value)],
    ),
]
"""One whole number or several: ``16,32,64``."""


@dataclass(frozen=True)
class Answer:
    """What a command found and wrote.

    Attributes:
        show: print it for people.
        result: main figures and counts, made when asked for; what `plain` takes.
        written: paths by name: files and folders that are there now. The first is the result's own.
        warnings: what speaks against the result, a line each.
        word: what ``--quiet`` prints; by default the first of ``written``, or nothing.
        then: what goes on once the answer is printed: a server.

    Example:
        >>> answer = Answer(lambda: print("a table"), lambda: {"cds": math.nan}, {"out": Path("run")})
        >>> answer.tell(Output(), "measure")
        a table
        >>> answer.tell(Output(quiet=True), "measure")
        run
        >>> print(json.dumps(answer.document("measure", ["few images"]) | {"version": "..."}))
        {"command": "measure", "version": "...", "written": {"out": "run"}, "warnings": ["few images"], "result": {"cds": null}}
    """  # noqa: E501

    show: Callable[[], None]
    result: Callable[[], Mapping[str, Any]]
    written: Mapping[str, Path] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    word: str | None = None
    then: Callable[[], None] | None = None

    def tell(self, output: Output, command: str, warned: Sequence[str] = ()) -> None:
        """Print it as the flags ask.

        Args:
            output: the flags.
            command: the command's name.
            warned: what was warned of on the way.
        """
        if output.json:
            print(json.dumps(self.document(command, warned), indent=2, allow_nan=False), flush=True)
        elif not output.quiet:
            self.show()
        elif self.word is not None:
            print(self.word)
        elif self.written:
            print(next(iter(self.written.values())))

    def document(self, command: str, warned: Sequence[str] = ()) -> dict[str, Any]:
        """The JSON document; docs/shell.md lists its keys."""
        document: dict[str, Any] = plain(
            {
                "command": command,
                "version": __version__,
                "written": self.written,
                "warnings": list(dict.fromkeys([*warned, *self.warnings])),
                "result": self.result(),
            }
        )
        return document


def plain(value: Any) -> Any:
    """JSON values: a number that is not one becomes None, a path its name, a dataclass an object, a tuple a list.

    Example:
        >>> plain({"cds": math.nan, 5: (Path("a"), math.inf, 1)})
        {'cds': None, '5': ['a', None, 1]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    # numpy's scalars and arrays; numpy itself would slow every command.
    return plain(value.tolist()) if hasattr(value, "tolist") else value


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
