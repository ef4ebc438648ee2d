"""Entry point: parse, run the command, and turn what the user can act on into one line and an exit status."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from infoscope.cli.check import Check
from infoscope.cli.compare import Compare
from infoscope.cli.figure import Figure
from infoscope.cli.info import Info
from infoscope.cli.measure import Measure
from infoscope.cli.outliers import Outliers
from infoscope.cli.probe import Probe
from infoscope.cli.report import Report
from infoscope.cli.saes import Saes
from infoscope.cli.select import Select
from infoscope.cli.serve import Serve
from infoscope.cli.sweep import Sweep
from infoscope.cli.table import Table
from infoscope.cli.train import Train
from infoscope.cli.validate import Validate
from infoscope.cli.zeroshot import Zeroshot
from infoscope.errors import InfoscopeError

USER_ERROR = 2
INTERRUPTED = 130

Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Measure, tyro.conf.subcommand("measure")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Figure, tyro.conf.subcommand("figure")]
    | Annotated[Serve, tyro.conf.subcommand("serve")]
    | Annotated[Outliers, tyro.conf.subcommand("outliers")]
    | Annotated[Probe, tyro.conf.subcommand("probe")]
    | Annotated[Zeroshot, tyro.conf.subcommand("zeroshot")]
    | Annotated[Select, tyro.conf.subcommand("select")]
    | Annotated[Table, tyro.conf.subcommand("table")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Saes, tyro.conf.subcommand("saes")]
    | Annotated[Validate, tyro.conf.subcommand("validate")]
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after ``infoscope``; those of the process by default.

    Returns:
        The exit status: 0, 2 for what the user can mend, 130 after Ctrl-C.
    """
    interrupted = "nothing was written"
    try:
        command: Command = tyro.cli(
            Command,
            prog="infoscope",
            description="Which features of a vision model's sparse autoencoder are local, and which global?",
            args=arguments,
        )
        interrupted = command.interrupted
        command.run()
    except InfoscopeError as error:
        print(f"infoscope: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"infoscope: interrupted; {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        # torch has an error of its own for a full GPU, but importing torch to name it would slow every command.
        if not isinstance(error, MemoryError) and "out of memory" not in str(error).lower():
            raise
        print("infoscope: out of memory; lower --batch-size", file=sys.stderr)
        return USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
