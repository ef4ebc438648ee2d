"""What the exit status says; docs/shell.md has the same table."""

from __future__ import annotations

from enum import IntEnum


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
