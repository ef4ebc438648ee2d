"""Where tables are printed."""

from __future__ import annotations

import sys

from rich.console import Console

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
