"""Mutations of JSON: what other programs and people write, and what nobody would."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from fuzz.mutations import Apply, mutation

# Literal texts, since some of them are no value that a writer would write.
ODD = (
    "null", "true", "false", "0", "-1", "1", "7", "0.5", "-0.0", "2147483648", "9223372036854775808", "1" + "0" * 400,
    "1" * 5000, "1e999", "-1e999", "1e-400", "NaN", "Infinity", "-Infinity", '""', '" "', '"7"', '"text"',
    '"a\\u0000b"',
    '"two\\nlines"', '"\\ud800"', '"../../etc/passwd"', '"' + "x" * 5000 + '"', "[]", "{}", "[null]", "[[]]",
    "[1, 2, 3]",
    '{"a": 1}', '["a", "b"]', "[NaN]", '[{"a": []}]', '{"": null}', '{"name": "topk", "k": 3}', "1.0", "32.5",
)  # fmt: skip
_HOLE = "\ue000hole\ue000"


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that is inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, item in inner:
        found.append((*path, key))
        found += places(item, (*path, key))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """What is at a path."""
    for key in path:
        value = value[key]
    return value


def _text(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def on_value(change: Callable[[Any, random.Random], str | None]) -> Apply:
    """A mutation from a function that gives a parsed value's new text."""

    def apply(data: bytes, rng: random.Random) -> bytes | None:
        value = _parsed(data)
        if not isinstance(value, dict | list) or not value:
            return None
        text = change(value, rng)
        return None if text is None else text.encode("utf-8", "surrogatepass")

    return apply


def _with(value: Any, path: tuple[Any, ...], literal: str) -> str:
    """The value's text with a literal at a path."""
    at(value, path[:-1])[path[-1]] = _HOLE
    return json.dumps(value, indent=2).replace(json.dumps(_HOLE), literal)


@mutation("json.value", honest=True)
@on_value
def _value(value: Any, rng: random.Random) -> str:
    return _with(value, rng.choice(places(value)), rng.choice(ODD))


@mutation("json.number", honest=True)
@on_value
def _number(value: Any, rng: random.Random) -> str | None:
    """A number where one was: off by one, negative, a float for a whole number, text, beyond any range."""
    numbers = [path for path in places(value) if isinstance(at(value, path), int | float)]
    if not numbers:
        return None
    path = rng.choice(numbers)
    old = at(value, path)
    if isinstance(old, bool):
        new = rng.choice(["0", "1", json.dumps(not old), '"true"', "null"])
    else:
        new = rng.choice([
            json.dumps(old + 1), json.dumps(old - 1), json.dumps(-old), json.dumps(float(old)), json.dumps(str(old)),
            json.dumps(old + 0.5), json.dumps([old]), "0", "NaN", "Infinity", "1e300", "100000000", "1" + "0" * 30,
        ])  # fmt: skip
    return _with(value, path, new)


@mutation("json.text", honest=True)
@on_value
def _words(value: Any, rng: random.Random) -> str | None:
    texts = [path for path in places(value) if isinstance(at(value, path), str)]
    if not texts:
        return None
    path = rng.choice(texts)
    old = at(value, path)
    new = rng.choice([
        "", old.upper(), old + " ", old + "\n", old + "\0", old[:-1], old + "x", "\ud800" + old, old * 2000,
        "\u202e" + old,
        "None",
    ])  # fmt: skip
    return _with(value, path, json.dumps(new))


@mutation("json.key removed", honest=True)
@on_value
def _key_removed(value: Any, rng: random.Random) -> str:
    path = rng.choice(places(value))
    del at(value, path[:-1])[path[-1]]
    return json.dumps(value, indent=2)


@mutation("json.key added", honest=True)
@on_value
def _key_added(value: Any, rng: random.Random) -> str | None:
    objects = [path for path in [(), *places(value)] if isinstance(at(value, path), dict)]
    if not objects:
        return None
    path = (*rng.choice(objects), rng.choice(["unknown", "", "a\nb", "__class__", "self", "k", "name", "\ud800", "0"]))
    return _with(value, path, rng.choice(ODD))


@mutation("json.key twice", honest=True)
@on_value
def _key_twice(value: Any, rng: random.Random) -> str | None:
    keys = [path for path in places(value) if isinstance(path[-1], str)]
    if not keys:
        return None
    path = rng.choice(keys)
    text = _with(value, path, _HOLE)
    kept = json.dumps(path[-1])
    return text.replace(f"{kept}: {_HOLE}", f"{kept}: {rng.choice(ODD)}, {kept}: {rng.choice(ODD)}", 1)


@mutation("json.key renamed", honest=True)
@on_value
def _key_renamed(value: Any, rng: random.Random) -> str | None:
    keys = [path for path in places(value) if isinstance(path[-1], str)]
    if not keys:
        return None
    path = rng.choice(keys)
    holder = at(value, path[:-1])
    holder[rng.choice([path[-1].upper(), path[-1] + " ", path[-1] + "s", path[-1][::-1]])] = holder.pop(path[-1])
    return json.dumps(value, indent=2)


@mutation("json.list", honest=True)
@on_value
def _list(value: Any, rng: random.Random) -> str | None:
    """A list that is shorter, longer, in another order, or has one entry too many."""
    lists = [path for path in [(), *places(value)] if isinstance(at(value, path), list) and at(value, path)]
    if not lists:
        return None
    entries = at(value, rng.choice(lists))
    change = rng.randrange(4)
    if change == 0:
        entries.pop(rng.randrange(len(entries)))
    elif change == 1:
        entries.append(rng.choice(entries))
    elif change == 2:
        entries.reverse()
    else:
        entries *= 50
    return json.dumps(value, indent=2)


@mutation("json.deep", honest=True)
@on_value
def _deep(value: Any, rng: random.Random) -> str:
    depth = rng.choice((50, 400, 2000, 100_000))
    opened, closed = rng.choice((("[", "]"), ('{"a":', "}")))
    return _with(value, rng.choice(places(value)), opened * depth + "1" + closed * depth)


@mutation("json.deep alone", honest=True)
def _deep_alone(data: bytes, rng: random.Random) -> bytes:
    depth = rng.choice((900, 100_000))
    return rng.choice((b"[" * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth))


@mutation("json.another document", honest=True)
def _another(data: bytes, rng: random.Random) -> bytes:
    return rng.choice([*(text.encode() for text in ODD), b"", b" ", b"{", b"{}{}", b'{"a": 1,}', b"{'a': 1}", b"\0"])


@mutation("json.wrapped", honest=True)
def _wrapped(data: bytes, rng: random.Random) -> bytes:
    before, after = rng.choice(((b"[", b"]"), (b'{"a": ', b"}"), (b"", b"x"), (b"// remark\n", b""), (b"", b",")))
    return before + data + after


@mutation("json.order", honest=True, expected="equal")
@on_value
def _order(value: Any, rng: random.Random) -> str | None:
    """The keys of the outermost object the other way round, which says the same."""
    if not isinstance(value, dict):
        return None
    return json.dumps(dict(reversed(value.items())), ensure_ascii=rng.random() < 0.5)
