"""The checker of types that every function of the package runs under here: beartype, made once for each function.

A function within a function is defined anew at every call of the outer one, and so would be its check, which takes a
millisecond. jaxtyping hands over an empty function that has the signature and nothing else, so one check does for all
definitions of the same name with the same types.
"""

from collections.abc import Callable
from typing import Any

from beartype import beartype

_made: dict[Any, Callable[..., Any]] = {}


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under beartype's check; of an equal one, the check that was made for it."""
    code = function.__code__
    key = (
        function.__module__,
        function.__qualname__,
        # Names and kinds of the parameters, how many have defaults, and what the function gives back.
        code.co_varnames,
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags,
        code.co_code,
        len(function.__defaults__ or ()),
        tuple(function.__kwdefaults__ or ()),
        tuple(function.__annotations__.items()),
    )
    try:
        known = _made.get(key)
    except TypeError:  # an annotation without a hash
        return beartype(function)
    if known is None:
        known = _made[key] = beartype(function)
    return known
