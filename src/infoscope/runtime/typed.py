"""Values checked against annotations: JSON that is to become a dataclass, and the fields of options."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, overload

from infoscope.errors import InfoscopeError, check_choice, either

# What a table or an array can hold; more is no count of anything.
_LARGEST = 2**63 - 1
_SHOWN = 40


@dataclass(frozen=True)
class Range:
    """The limits of a number, in an ``Annotated``; None is no limit.

    Attributes:
        least: the smallest value allowed.
        greatest: the largest.
        above: a value that it must exceed.
        below: a value that it must stay under.
        unit: what is counted, for messages.

    Example:
        >>> print(Range(2, 14, unit="inches"), Range(1), Range(above=0), Range(0, below=1), sep="; ")
        2 to 14 inches; 1 or more; a number above 0; 0 or more, and less than 1
    """

    least: int | float | None = None
    greatest: int | float | None = None
    above: int | float | None = None
    below: int | float | None = None
    unit: str = ""

    def holds(self, value: int | float) -> bool:
        """Whether a value is within the limits; NaN is outside of any."""
        return (
            (self.least is None or value >= self.least)
            and (self.greatest is None or value <= self.greatest)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.above is not None:
            words = f"a finite number above {self.above}" if self.below == math.inf else f"a number above {self.above}"
        else:
            words = f"{self.least}" + (" or more" if self.greatest is None else f" to {self.greatest}")
        if self.below is not None and self.below < math.inf:
            words += f", and less than {self.below}"
        return words + (f" {self.unit}" if self.unit else "")


Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]
AtLeast0 = Annotated[float, Range(0)]
Above0 = Annotated[float, Range(above=0)]


Kind = TypeVar("Kind")


@overload
def from_json(kind: type[Kind], value: Any, *, other_entries: bool = False, undefined: bool = False) -> Kind: ...


@overload
def from_json(kind: Any, value: Any, *, other_entries: bool = False, undefined: bool = False) -> Any: ...


def from_json(kind: Any, value: Any, *, other_entries: bool = False, undefined: bool = False) -> Any:
    """A JSON value as what an annotation says: a dataclass, or a list or dictionary of such.

    Args:
        kind: a dataclass or another annotation: ``int``, ``float``, ``bool``, ``str``, ``None``, ``Any``, lists, tuples
            of one kind, dictionaries with text for keys, unions, ``Literal``, and ``Annotated`` with a `Range`.
        value: as it was read.
        other_entries: ignore entries that a dataclass has no field for, instead of refusing them.
        undefined: read null as NaN where there should be a number, as `to_json` writes it.

    Raises:
        ValueError: it is something else; the message names the entry and what it should be.

    Example:
        >>> @dataclass
        ... class Pool:
        ...     source: str
        ...     count: Count
        ...     shares: list[float]
        ...     note: str | None = None
        >>> from_json(Pool, {"source": "photographs", "count": 3, "shares": [0.5, 1]})
        Pool(source='photographs', count=3, shares=[0.5, 1.0], note=None)
        >>> from_json(Pool, {"source": "photographs", "count": "x", "shares": []})
        Traceback (most recent call last):
        ...
        ValueError: count is 'x', not a whole number
        >>> from_json(Pool, {"source": "photographs", "count": -1, "shares": []})
        Traceback (most recent call last):
        ...
        ValueError: count is -1, not 0 or more
    """
    return _checked(kind, value, "", _Leniency(other_entries, undefined))


def check_fields(options: Any, prefix: str = "--") -> None:
    """Refuse a dataclass of options if one of them is not what its annotation allows.

    A ``Literal`` allows its words, a `Range` in an ``Annotated`` the numbers within it, a tuple these for each of its
    entries; None is an option that was not given. Types themselves are left to type checkers and to the command line.

    Args:
        options: an instance of the dataclass, whose ``__post_init__`` calls this.
        prefix: what stands before an option's name in a message; the name is written as a flag after ``--``.

    Raises:
        InfoscopeError: an option has another value; the message says which ones it may have.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Drawing:
        ...     colour: Literal["red", "blue"] = "red"
        ...     line_width: Annotated[float | None, Range(above=0)] = None
        ...     def __post_init__(self):
        ...         check_fields(self)
        >>> Drawing(line_width=-1.0)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --line-width -1.0 is out of range: choose a number above 0
    """
    for name, annotation in hints_of(options.__class__).items():
        option = prefix + (name.replace("_", "-") if prefix == "--" else name)
        check_value(option, getattr(options, name), annotation)


def check_value(option: str, value: Any, annotation: Any) -> None:
    """Refuse a value that an annotation does not allow, as `check_fields` does.

    Args:
        option: the option as the user knows it.
        value: what was given.
        annotation: what is allowed.

    Raises:
        InfoscopeError: the value is not allowed.
    """
    kind, parts = get_origin(annotation), get_args(annotation)
    if value is None:
        return
    if kind is Annotated:
        for limits in parts[1:]:
            if isinstance(limits, Range):
                for number in value if isinstance(value, tuple) else (value,):
                    if not limits.holds(number):
                        raise InfoscopeError(f"{option} {number} is out of range: choose {limits}")
        check_value(option, value, parts[0])
    elif kind is Literal:
        check_choice(option, value, annotation)
    elif kind in (Union, types.UnionType):
        for part in parts:
            check_value(option, value, part)
    elif kind is tuple and isinstance(value, tuple):  # not so where a union also allows a single number
        for entry in value:
            check_value(option, entry, parts[0])


@dataclass(frozen=True)
class _Leniency:
    other_entries: bool
    undefined: bool


def _checked(kind: Any, value: Any, place: str, lenient: _Leniency) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        inner, *marks = get_args(kind)
        return _within(_checked(inner, value, place, lenient), marks, place)
    if origin is Union or origin is types.UnionType:
        return _one_of(get_args(kind), value, place, lenient)
    if origin is Literal:
        if value not in get_args(kind) or isinstance(value, float):
            raise _wrong(place, value, either([str(word) for word in get_args(kind)]))
        return value
    if isinstance(kind, type) and is_dataclass(kind):
        return _record(kind, value, place, lenient)
    if kind in _PLAIN:
        return _plain(kind, value, place, lenient)
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise _wrong(place, value, "a list")
        inner = get_args(kind)[0]
        found = [_checked(inner, each, f"{place}[{number}]", lenient) for number, each in enumerate(value)]
        return tuple(found) if origin is tuple else found
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise _wrong(place, value, "an object")
        inner = get_args(kind)[1]
        return {name: _checked(inner, each, _under(place, name), lenient) for name, each in value.items()}
    raise TypeError(f"{kind} is no annotation that JSON values are checked against")


_PLAIN: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    None: "null",
}


def _plain(kind: Any, value: Any, place: str, lenient: _Leniency) -> Any:
    if kind is float:
        if value is None and lenient.undefined:
            return math.nan
        if type(value) in (int, float) and abs(value) <= _LARGEST:  # not so for NaN
            return float(value)
        if type(value) is float and math.isfinite(value):
            return value
    elif kind is int:
        if type(value) is int and abs(value) <= _LARGEST:
            return value
    elif kind in (None, type(None)):
        if value is None:
            return None
    elif type(value) is kind:
        return value
    raise _wrong(place, value, _PLAIN[kind])


def _within(value: Any, marks: list[Any], place: str) -> Any:
    # NaN stands for what is not defined, which no limit applies to.
    undefined = value is None or math.isnan(value)
    for mark in marks:
        if isinstance(mark, Range) and not undefined and not mark.holds(value):
            raise _wrong(place, value, str(mark))
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, place: str, lenient: _Leniency) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return _checked(kind, value, place, lenient)
        except ValueError:
            continue
    return _checked(others[-1], value, place, lenient)


def _record(kind: Any, value: Any, place: str, lenient: _Leniency) -> Any:
    if not isinstance(value, dict):
        raise _wrong(place, value, "an object")
    hints = hints_of(kind)
    known = {field.name: field for field in fields(kind)}
    unknown = [name for name in value if name not in known]
    if unknown and not lenient.other_entries:
        raise ValueError(f"{_under(place, str(unknown[0])[:_SHOWN])} is no entry of it")
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{_under(place, name)} is missing")
    return kind(
        **{name: _checked(hints[name], value[name], _under(place, name), lenient) for name in known if name in value}
    )


@cache
def hints_of(kind: Any) -> dict[str, Any]:
    """The annotations of a dataclass's fields, its bases' among them, as objects."""
    return get_type_hints(kind, include_extras=True)


def _under(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _wrong(place: str, value: Any, wanted: str) -> ValueError:
    shown = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    shown = "null" if value is None else shown
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return ValueError(f"{place or 'it'} is {shown}, not {wanted}")
