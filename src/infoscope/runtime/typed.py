"""JSON values checked against the annotations of the dataclass that they are to become."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

# What a table or an array can hold; more is no count of anything.
_LARGEST = 2**63 - 1
_SHOWN = 40


@dataclass(frozen=True)
class Range:
    """The least and the greatest value of a number, in an ``Annotated``; None is no limit."""

    least: int | float | None = None
    greatest: int | float | None = None


Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]


def from_json(kind: Any, value: Any, *, other_entries: bool = False, undefined: bool = False) -> Any:
    """A JSON value as what an annotation says: a dataclass, or a list or dictionary of such.

    Args:
        kind: a dataclass or another annotation: ``int``, ``float``, ``bool``, ``str``, ``None``, ``Any``, lists, tuples
            of one kind, dictionaries with text for keys, unions, ``Literal``, and ``Annotated`` with a `Range`.
        value: as it was read.
        other_entries: pass over entries that a dataclass has no field for, in place of refusing them.
        undefined: take null for NaN where there should be a number, as some records have it.

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
        ValueError: count is -1, under 0
    """
    return _checked(kind, value, "", _Ways(other_entries, undefined))


@dataclass(frozen=True)
class _Ways:
    other_entries: bool
    undefined: bool


def _checked(kind: Any, value: Any, place: str, ways: _Ways) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        inner, *marks = get_args(kind)
        return _within(_checked(inner, value, place, ways), marks, place)
    if origin is Union or origin is types.UnionType:
        return _one_of(get_args(kind), value, place, ways)
    if origin is Literal:
        if value not in get_args(kind) or isinstance(value, float):
            raise _wrong(place, value, " or ".join(map(str, get_args(kind))))
        return value
    if isinstance(kind, type) and is_dataclass(kind):
        return _record(kind, value, place, ways)
    if kind in _PLAIN:
        return _plain(kind, value, place, ways)
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise _wrong(place, value, "a list")
        inner = get_args(kind)[0]
        found = [_checked(inner, each, f"{place}[{number}]", ways) for number, each in enumerate(value)]
        return tuple(found) if origin is tuple else found
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise _wrong(place, value, "an object")
        inner = get_args(kind)[1]
        return {name: _checked(inner, each, _under(place, name), ways) for name, each in value.items()}
    raise TypeError(f"{kind} is no annotation that JSON values are checked against")


_PLAIN: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    None: "null",
}


def _plain(kind: Any, value: Any, place: str, ways: _Ways) -> Any:
    if kind is float:
        if value is None and ways.undefined:
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
    for mark in marks:
        # What is not defined is NaN, and within all limits.
        if isinstance(mark, Range) and value is not None:
            if mark.least is not None and value < mark.least:
                raise ValueError(f"{place or 'it'} is {value}, under {mark.least:g}")
            if mark.greatest is not None and value > mark.greatest:
                raise ValueError(f"{place or 'it'} is {value}, over {mark.greatest:g}")
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, place: str, ways: _Ways) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return _checked(kind, value, place, ways)
        except ValueError:
            continue
    return _checked(others[-1], value, place, ways)


def _record(kind: Any, value: Any, place: str, ways: _Ways) -> Any:
    if not isinstance(value, dict):
        raise _wrong(place, value, "an object")
    hints = _hints(kind)
    known = {field.name: field for field in fields(kind)}
    unknown = [name for name in value if name not in known]
    if unknown and not ways.other_entries:
        raise ValueError(f"{_under(place, str(unknown[0])[:_SHOWN])} is no entry of it")
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{_under(place, name)} is missing")
    return kind(
        **{name: _checked(hints[name], value[name], _under(place, name), ways) for name in known if name in value}
    )


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _under(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _wrong(place: str, value: Any, wanted: str) -> ValueError:
    shown = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    shown = "null" if value is None else shown
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return ValueError(f"{place or 'it'} is {shown}, not {wanted}")
