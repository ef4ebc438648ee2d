"""Entry point: parse, run the command, and turn what the user can act on into one line and an exit status."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field, make_dataclass
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal, Union

import tyro

from infoscope import __version__
from infoscope.cli.check import Check
from infoscope.cli.compare import Compare
from infoscope.cli.demo import Demo
from infoscope.cli.figure import Figure
from infoscope.cli.info import Info
from infoscope.cli.judge import Judge
from infoscope.cli.measure import Measure
from infoscope.cli.outliers import Outliers
from infoscope.cli.output import Answer, Exit, Output, telling
from infoscope.cli.park import Park
from infoscope.cli.predictors import Predictors
from infoscope.cli.probe import Probe
from infoscope.cli.report import Report, Serve
from infoscope.cli.saes import Saes
from infoscope.cli.select import Select
from infoscope.cli.sweep import Sweep
from infoscope.cli.table import Table
from infoscope.cli.train import Train
from infoscope.cli.validate import Validate
from infoscope.cli.zeroshot import Zeroshot
from infoscope.errors import InfoscopeError, ran_out_of_memory
from infoscope.runtime.execution import note_waiting, wait_passively

Shell = Literal["bash", "zsh", "fish", "tcsh"]


@dataclass(frozen=True)
class Completion:
    """Print a script by which a shell completes infoscope's commands and flags.

    For bash: infoscope completion bash > ~/.local/share/bash-completion/completions/infoscope. docs/shell.md has the
    others.
    """

    shell: tyro.conf.Positional[Shell]
    """The shell it is for."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "nothing was written"

    def run(self) -> Answer:
        """Run the command."""
        script = completion_script(self.shell)
        return Answer(lambda: print(script), lambda: {"shell": self.shell, "script": script}, word=script)


def completion_script(shell: Shell) -> str:
    """The script, as tyro makes it of the commands."""
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        tyro.cli(_choice_of(COMMANDS), prog="infoscope", args=["--tyro-print-completion", shell])
    return printed.getvalue().rstrip("\n")


COMMANDS: dict[str, type] = {
    kind.__name__.lower(): kind
    for kind in (
        *(
            Demo,
            Train,
            Measure,
            Report,
            Figure,
            Serve,
            Outliers,
            Probe,
            Zeroshot,
            Select,
            Predictors,
            Table,
            Compare,
            Sweep,
        ),
        *(Info, Judge, Check, Saes, Validate, Park, Completion),
    )
}
"""Each command's class by its name, in the order of the help."""

DESCRIPTION = (
    "Which features of a vision model's sparse autoencoder are local, and which global? --version prints the version; "
    "every command explains its flags with --help."
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after ``infoscope``; those of the process by default.

    Returns:
        The exit status, one of `Exit`.
    """
    wait_passively()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        try:
            return _run(words)
        finally:
            # Flushed now and not at exit, where Python ignores the error if nothing can be written.
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return Exit.CLOSED_PIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        _discard_output()
        where = error.filename or "the output"
        advice = "raise the limit on the size of a file" if error.errno == errno.EFBIG else "free some space"
        return _fail(f"cannot write {where}: {error.strerror}; {advice}, or write elsewhere")


def _run(words: Sequence[str]) -> int:
    interrupted = "nothing was written"
    verbose = False
    try:
        name, command = _parse(words)
        interrupted, verbose = command.interrupted, command.output.verbose
        with telling(command.output) as warned:
            note_waiting()
            answer: Answer | None = command.run()
            if answer is not None:
                answer.tell(command.output, name, warned)
                sys.stdout.flush()
                if answer.then is not None:
                    answer.then()
    except InfoscopeError as error:
        if verbose:
            traceback.print_exc()
        return _fail(str(error))
    except KeyboardInterrupt:
        _fail(f"interrupted; {interrupted}")
        return Exit.INTERRUPTED
    except (MemoryError, OSError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        if verbose:
            traceback.print_exc()
        return _fail("out of memory; lower --batch-size")
    return Exit.DONE


def _parse(words: Sequence[str]) -> tuple[str, Any]:
    """The command's name, and the command with its flags.

    Raises:
        InfoscopeError: there is no such command, or its flags do not go together.
        SystemExit: a flag is not known or has no such value, or help was asked for.
    """
    # tyro looks at whether stdout is a terminal, and prints errors to stderr.
    tyro._experimental_options["ansi_codes"] = not os.environ.get("NO_COLOR") and sys.stderr.isatty()
    if list(words) == ["--version"]:
        print(f"infoscope {__version__}")
        raise SystemExit(Exit.DONE)
    if not words or words[0].startswith("-"):
        completes = bool(words) and words[0].startswith("--tyro-")
        # Help, or an error.
        tyro.cli(
            _choice_of(COMMANDS if completes else _outlines()), prog="infoscope", description=DESCRIPTION, args=words
        )
        raise SystemExit(Exit.USER_ERROR)
    name = words[0]
    if name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, 1)
        meant = f"; did you mean {close[0]}?" if close else "; infoscope --help lists them"
        raise InfoscopeError(f"no command is called {name!r}{meant}")
    return name, tyro.cli(COMMANDS[name], prog=f"infoscope {name}", args=words[1:])


def _outlines() -> dict[str, type]:
    """The commands without their flags: enough for a list of them, in a third of the time."""
    return {
        name: make_dataclass(kind.__name__, (), namespace={"__doc__": kind.__doc__}) for name, kind in COMMANDS.items()
    }


def _choice_of(kinds: Mapping[str, type]) -> Any:
    """The type by which tyro offers several commands."""
    commands = tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in kinds.items())
    return Union[commands]  # noqa: UP007


def _fail(message: str) -> int:
    # Where stderr is closed too, there is nobody to tell.
    with suppress(BrokenPipeError):
        print(f"infoscope: {message}", file=sys.stderr, flush=True)
    return Exit.USER_ERROR


def _discard_output() -> None:
    """Discard what is still to be written to stdout, which the interpreter would write at exit."""
    with suppress(OSError, ValueError):  # it may have no file of its own
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
