"""What every command prints, and how much: its flags, its answer, its exit status."""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console

from infoscope import __version__
from infoscope.errors import InfoscopeError
from infoscope.runtime.json_values import to_json

if TYPE_CHECKING:
    from rich.table import Table


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
    """Something the user can mend: the command line, a path, a file, a missing extra, a full disk, little memory."""
    INTERRUPTED = 130
    """Ctrl-C: 128 + SIGINT."""
    CLOSED_PIPE = 141
    """Whoever read the output stopped: 128 + SIGPIPE, as of any program in `infoscope ... | head`."""


# Our choice: columns of a wide table where nobody's window says how many there are.
WIDE = 240


class PlainConsole(Console):
    """A console that leaves a closed pipe to whoever runs the command."""

    def on_broken_pipe(self) -> None:
        """Raise the error again: rich would end the process, with a status of its own."""
        raise


def console(wide: int | None = None) -> Console:
    """Standard output for tables. NO_COLOR, FORCE_COLOR, TERM and COLUMNS are rich's to honour.

    Args:
        wide: columns to take where standard output is no terminal; by default 80.
    """
    return PlainConsole(highlight=False, width=None if wide is None or sys.stdout.isatty() else wide)


def print_rows(rows: list[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        # Text, not markup: names and paths may hold brackets.
        table.add_row(Text(name), Text(value))
    console().print(table)


def plain_table(title: str | None, heads: Sequence[str], left: int = 1, unbroken: Collection[int] = ()) -> Table:
    """A table without lines, to which rows are added.

    Args:
        title: a line above it, or none.
        heads: of the columns.
        left: how many columns are aligned to the left; the others hold numbers, and are aligned to the right.
        unbroken: the columns whose cells stay on one line.
    """
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, head in enumerate(heads):
        justify: Literal["left", "right"] = "left" if number < left else "right"
        table.add_column(head, justify=justify, no_wrap=number in unbroken, overflow="fold")
    return table


def cell(value: int | float | None, form: str = ".3f", missing: str = "") -> str:
    """A number as it is written into a table.

    Example:
        >>> cell(0.12345), cell(0.5, ".1%"), cell(None, missing="-")
        ('0.123', '50.0%', '-')
    """
    return missing if value is None else format(value, form)


def name_skipped(skipped: list[dict[str, Any]], file: Path) -> str:
    """The first skipped images with their reasons, and where all of them are named."""
    named = "; ".join(f"{image['id']} ({image['reason']})" for image in skipped[:3])
    return named + (f" and {len(skipped) - 3} more, all in {file}" if len(skipped) > 3 else "")


def given_command() -> str:
    """The command line as a shell would take it again, for the record of what it makes."""
    return shlex.join(["infoscope", *sys.argv[1:]])


@dataclass(frozen=True)
class Answer:
    """What a command found and wrote.

    Attributes:
        show: print it for people.
        result: main figures and counts, made when asked for; what `to_json` takes.
        written: paths by name: files and folders that are there now. The first is the result's own.
        warnings: what speaks against the result, a line each.
        word: what ``--quiet`` prints; by default the first of ``written``, or nothing.
        then: what keeps running once the answer is printed: a server.

    Example:
        >>> answer = Answer(lambda: print("a table"), lambda: {"cds": float("nan")}, {"out": Path("run")})
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
        document: dict[str, Any] = to_json(
            {
                "command": command,
                "version": __version__,
                "written": self.written,
                "warnings": list(dict.fromkeys([*warned, *self.warnings])),
                "result": self.result(),
            }
        )
        return document


LOGGER = logging.getLogger("infoscope")
PROGRESS = logging.getLogger("infoscope.progress")
# Versions that --verbose prints: a computation may depend on them.
PACKAGES = ("torch", "transformers", "numpy", "numba", "polars", "pillow", "scikit-learn", "tyro", "rich")


@dataclass(frozen=True)
class Output:
    """What is printed; the same for every command."""

    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON document in place of text; docs/shell.md lists its keys."""
    quiet: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(aliases=["-q"])] = False
    """Print only errors and the path of the result: no progress, no tables."""
    verbose: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(aliases=["-v"])] = False
    """Print to stderr what is loaded, how long each stage and shard takes, what libraries say, and tracebacks."""

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
        # `sys.stderr` is looked up for each line: a progress bar replaces it while it is shown.
        since = f"{time.monotonic() - self._began:.1f} s: " if record.levelno <= logging.DEBUG else ""
        print(f"infoscope: {since}{message}", file=sys.stderr, flush=True)


@contextmanager
def telling(output: Output) -> Iterator[list[str]]:
    """Log as much as was asked for while a command runs.

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
