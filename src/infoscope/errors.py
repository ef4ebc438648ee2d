"""The one exception a user meets: a line that names the thing and says what to do."""

from __future__ import annotations

import errno
import re
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any, get_args


class InfoscopeError(Exception):
    r"""A condition the user can act on.

    The message is one line: what is wrong, with the name of the file, flag or shape, and what to do. The
    command line prints it without a traceback and exits with status 2 (`infoscope.cli.output`).

    A message may quote a file, and a file may hold anything: line breaks, and what makes a terminal move or colour its
    text, are written as Python writes them, and addresses in memory, which differ each time, are left out.

    Example:
        >>> raise InfoscopeError("no such folder: photos; check --images")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such folder: photos; check --images
        >>> print(InfoscopeError("list.txt names 'a\nb'"), InfoscopeError("found <Call object at 0x7f18f3ae0d90>"))
        list.txt names 'a\nb' found <Call object>
    """

    def __init__(self, message: str = ""):
        super().__init__(_ADDRESS.sub("", message).translate(_ESCAPED))


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}(?=>)")
# The control characters, those that end a line, and those that turn the direction of text.
_ESCAPED = {
    code: chr(code).encode("unicode_escape").decode()
    for code in (*range(32), *range(127, 160), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


class UnreadableImageError(InfoscopeError):
    """One image cannot be used; the message is the reason. A pass skips it, counts it and names it."""


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
        >>> check_choice("rank_by", "median", Literal["max", "mean", "sum"])
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: rank_by 'median' is not known: choose max, mean or sum
    """
    known = get_args(choices)
    if value not in known:
        raise InfoscopeError(f"{name} {value!r} is not known: choose {either(known)}")


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short, on a CPU or a GPU.

    Python, numpy, torch and the system each say so in their own way, and torch does so with a plain ``RuntimeError``.
    Taken for anything else, it would send the user to mend a file that is whole.

    Example:
        >>> ran_out_of_memory(MemoryError()), ran_out_of_memory(ValueError("no such key"))
        (True, False)
        >>> ran_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
        True
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM):
            return True
        text = str(cause).lower() if isinstance(cause, Exception) else ""
        if any(words in text for words in _SHORT_OF_MEMORY):
            return True
        cause = cause.__cause__
    return False


_SHORT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "unable to allocate",
    "bad_alloc",
)


def no_memory_to(what: str) -> InfoscopeError:
    """The error for what could not be done because memory is short.

    Example:
        >>> str(no_memory_to("read sae.pt"))
        'there is not enough memory to read sae.pt; close other programs, or use a machine with more'
    """
    return InfoscopeError(f"there is not enough memory to {what}; close other programs, or use a machine with more")


def first_line(error: BaseException) -> str:
    r"""What an error of a library says, in one line; its type where it says nothing.

    Example:
        >>> first_line(ValueError("no header\nin a.npy")), first_line(KeyboardInterrupt())
        ('no header', 'KeyboardInterrupt')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shown(value: Any) -> str:
    """A value out of somebody's file as part of a message: one line, and short whatever it is.

    Example:
        >>> shown("yes"), shown(2.5), len(shown([1] * 10**6)) < 100
        ("'yes'", '2.5', True)
    """
    try:
        text = _SHORTENED.repr(value)
        return text if len(text) <= 120 else f"{text[:117]}..."
    except (ValueError, RecursionError):  # a whole number of thousands of digits, data without end
        return f"a {type(value).__name__} too large to show"


_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring = _SHORTENED.maxother = _SHORTENED.maxlong = 60
_SHORTENED.maxlevel = 3


def few(names: Iterable[str], most: int = 5) -> str:
    """The first few names, and how many more there are.

    Example:
        >>> few("abcdefg")
        'a, b, c, d, e and 2 more'
    """
    listed = [name if name.isprintable() and len(name) <= 80 else shown(name) for name in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def either(names: Sequence[str]) -> str:
    """All names, of which one is meant.

    Example:
        >>> either("a"), either("abc")
        ('a', 'a, b or c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
