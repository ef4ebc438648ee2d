"""The checks of types and shapes that every function of the package runs under here: beartype's and jaxtyping's.

jaxtyping's import hook decorates every function and class with `jaxtyping.jaxtyped`, which binds the arguments of each
call to the signature, checks them twice, and compiles two more functions whenever a function within a function is
defined anew. Together this took a third of the tests' time. `jaxtyped` here checks the same types with the same meaning
of axes, once: it is beartype's wrapper, in a fresh memory of axes where an annotation has some. For a function within a
function the wrapper is made once, and then bound to each definition.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, get_args, get_type_hints

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, TypeCheckError

# From where it is defined: by its public name the tests have `jaxtyped` below.
from jaxtyping._decorator import jaxtyped as theirs

_CONFIGURATION = BeartypeConf(violation_type=TypeCheckError)
# Sizes of axes hold within one call. The context keeps nothing itself, so that one serves all calls.
_FRESH_AXES = theirs("context")
# The parameter by which beartype's wrapper knows what it wraps.
_WRAPPED = "__beartype_func"

_made: dict[Any, tuple[FunctionType, bool, Any]] = {}


def jaxtyped(decorated: Any = None, *, typechecker: Any = None) -> Any:
    """In the place of `jaxtyping.jaxtyped`: a function under its checks, or a dataclass whose ``__init__`` is."""
    if decorated is None:
        return jaxtyped
    if inspect.isclass(decorated):
        if dataclasses.is_dataclass(decorated) and not hasattr(decorated.__init__, "checked"):
            decorated.__init__ = jaxtyped(decorated.__init__)
        return decorated
    if inspect.isgeneratorfunction(decorated) or not isinstance(decorated, FunctionType):
        # beartype checks a generator's arguments only when it is first asked for a value, after the call.
        return theirs(decorated, typechecker=beartype)
    check, has_axes = _check(decorated)
    if check is None:
        return decorated
    if has_axes:

        def checked(*arguments: Any, **options: Any) -> Any:
            __tracebackhide__ = True
            with _FRESH_AXES:
                return check(*arguments, **options)
    else:
        checked = check
    functools.update_wrapper(checked, decorated)
    checked.checked = True
    return checked


def _check(function: FunctionType) -> tuple[FunctionType | None, bool]:
    """Beartype's wrapper, None where there is nothing to check, and whether the annotations have axes."""
    # The code is the same object at every definition, and is kept with what was made for it, so that none takes its id.
    key = (id(function.__code__), tuple(function.__annotations__.items()))
    try:
        made = _made.get(key)
    except TypeError:  # an annotation without a hash
        made, key = None, None
    if made is None:
        hints = _hints(function)
        twin = _copy(function, function.__kwdefaults__)
        twin.__annotations__ = hints
        made = (beartype(conf=_CONFIGURATION)(twin), any(map(_has_axes, hints.values())), function.__code__)
        if key is not None:
            _made[key] = made
    wrapper, has_axes, _ = made
    known = wrapper.__kwdefaults__ or {}
    if _WRAPPED not in known:
        return None, False
    return _copy(wrapper, known | {_WRAPPED: function}), has_axes


def _copy(function: FunctionType, kwdefaults: dict[str, Any] | None) -> FunctionType:
    """The same function once more, with other defaults of its keywords."""
    twin = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__ = kwdefaults
    twin.__module__, twin.__qualname__ = function.__module__, function.__qualname__
    return twin


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations as types; a name that is not there yet, or for type checkers alone, allows anything."""
    found = {}
    for name, annotation in function.__annotations__.items():

        def alone() -> None: ...

        alone.__annotations__ = {name: annotation}
        try:
            found |= get_type_hints(alone, function.__globals__, include_extras=True)
        except Exception:
            found[name] = Any
    return found


def _has_axes(hint: Any) -> bool:
    if isinstance(hint, TypeVar) or (inspect.isclass(hint) and issubclass(hint, AbstractArray)):
        return True
    return any(map(_has_axes, get_args(hint)))
