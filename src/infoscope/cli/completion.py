"""``infoscope completion``."""

from __future__ import annotations

import io
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import tyro

from infoscope.cli.answer import Answer
from infoscope.cli.output import Output

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
    from infoscope.cli.main import Command

    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        tyro.cli(Command, prog="infoscope", args=["--tyro-print-completion", shell])
    return printed.getvalue().rstrip("\n")
