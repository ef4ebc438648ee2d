"""The one exception a user meets: a line that names the thing and says what to do."""

from __future__ import annotations

from typing import Any, get_args


class InfoscopeError(Exception):
    """A condition the user can act on.

    The message is one line: what is wrong, with the name of the file, flag or shape, and what to do. The
    command line prints it without a traceback and exits with status 2 (`infoscope.cli.exits`).

    Example:
        >>> raise InfoscopeError("no such folder: photos; check --images")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such folder: photos; check --images
    """


def check_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a value that is none of a ``Literal``'s.

    Args:
        name: the option as the user knows it.
        value: what was given.
        choices: the ``Literal`` type.

    Raises:
        InfoscopeError: the value is not among the choices.

    Example:
        >>> from typing import Literal
        >>> check_choice("rank_by", "median", Literal["max", "mean"])
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: rank_by 'median' is not known: choose max or mean
    """
    known = get_args(choices)
    if value not in known:
        raise InfoscopeError(f"{name} {value!r} is not known: choose {' or '.join(known)}")


def check_counts(**counts: int | None) -> None:
    """Refuse options that count something and are below 1; None is an option that was not given.

    Raises:
        InfoscopeError: naming the first such option as its flag.

    Example:
        >>> check_counts(batch_size=8, threads=0)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --threads 0 is out of range: choose 1 or more
    """
    for name, value in counts.items():
        if value is not None and value < 1:
            raise InfoscopeError(f"--{name.replace('_', '-')} {value} is out of range: choose 1 or more")
