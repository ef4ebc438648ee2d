"""Mutations of pickles, in files of torch: what an opcode says, names, numbers and gets."""

from __future__ import annotations

import io
import pickle
import pickletools
import random
from collections.abc import Callable
from typing import Any

from fuzz.archives import entry, read_zip, write_zip
from fuzz.mutations import Apply, mutation

Operation = tuple[str, Any, bytes]
"""An opcode's name, its argument and its bytes."""

GLOBALS = (
    b"cos\nsystem\n", b"cbuiltins\neval\n", b"cbuiltins\ngetattr\n", b"ctorch\nload\n", b"ctorch\nfloat32\n",
    b"ctorch\nint64\n",
    b"ctorch\nLongStorage\n", b"ctorch\nDoubleStorage\n", b"ctorch\nBoolStorage\n", b"ctorch.storage\nUntypedStorage\n",
    b"ctorch\nTensor\n", b"ctorch\nSize\n", b"ctorch\ndevice\n", b"ctorch._utils\n_rebuild_tensor\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n",
    b"ccollections\nOrderedDict\n", b"ccollections\nCounter\n", b"cbuiltins\nset\n", b"cbuiltins\nbytearray\n",
    b"c_codecs\nencode\n", b"ccopyreg\n_reconstructor\n", b"cunheard.of\nThing\n", b"ca.b\n__class__\n", b"c\n\n",
    b"cbuiltins\ncomplex\n", b"cbuiltins\nslice\n", b"cnumpy\nndarray\n",
)  # fmt: skip


def operations(data: bytes) -> tuple[list[Operation], bytes] | None:
    """The operations of the pickle at the beginning, and what comes after; None where there is none."""
    try:
        found = [(code.name, argument, place) for code, argument, place in pickletools.genops(io.BytesIO(data))]
    except Exception:
        return None
    stop = found[-1][2] + 1
    ends = [place for _, _, place in found[1:]] + [stop]
    held = [(name, argument, data[place:end]) for (name, argument, place), end in zip(found, ends, strict=True)]
    return held, data[stop:]


def joined(held: list[Operation]) -> bytes:
    """The pickle of some operations."""
    return b"".join(raw for _, _, raw in held)


def number(value: int) -> bytes:
    """The operation that gives a whole number."""
    return b"I%d\n" % value


def text(value: str) -> bytes:
    """The operation that gives a text."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + len(raw).to_bytes(4, "little") + raw


def _chosen(held: list[Operation], rng: random.Random, *names: str) -> int | None:
    places = [place for place, (name, _, _) in enumerate(held) if name in names]
    return rng.choice(places) if places else None


Change = Callable[[list[Operation], random.Random], list[Operation] | None]


def _raw(data: bytes) -> Operation:
    return ("RAW", None, data)


def _put(held: list[Operation], place: int, data: bytes, instead: bool = True) -> list[Operation]:
    return [*held[:place], _raw(data), *held[place + instead :]]


def _numbers(held: list[Operation], rng: random.Random) -> list[Operation] | None:
    """Another size, stride, offset or setting."""
    place = _chosen(held, rng, "BININT", "BININT1", "BININT2", "LONG1", "INT")
    if place is None:
        return None
    old = int(held[place][1])
    new = rng.choice(
        [0, 1, -1, old + 1, old - 1, 2 * old, -old, 2**31 - 1, 2**31, 2**62, 2**63 - 1, 2**63, 10**30, old + 1000]
    )
    return _put(held, place, number(new))


def _floats(held: list[Operation], rng: random.Random) -> list[Operation] | None:
    place = _chosen(held, rng, "BINFLOAT", "BININT1", "NEWTRUE", "NEWFALSE", "NONE")
    if place is None:
        return None
    return _put(
        held,
        place,
        rng.choice((b"Fnan\n", b"Finf\n", b"F0.5\n", b"F-1.0\n", b"N", b"\x88", b"\x89", text("text"), b"]", b"}")),
    )


def _texts(held: list[Operation], rng: random.Random) -> list[Operation] | None:
    """Another key, name of a storage, or device."""
    place = _chosen(held, rng, "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINBYTES", "BINSTRING", "SHORT_BINSTRING")
    if place is None:
        return None
    old = str(held[place][1])
    new = [
        "",
        old + "x",
        old.upper(),
        "cuda:0",
        "meta",
        "storage",
        "0",
        "1",
        "99",
        "../x",
        "a\nb",
        "\ud800",
        "W_enc",
        "k",
        old * 99,
    ]
    return _put(held, place, text(rng.choice(new)))


def _globals(held: list[Operation], rng: random.Random) -> list[Operation] | None:
    place = _chosen(held, rng, "GLOBAL")
    return None if place is None else _put(held, place, rng.choice(GLOBALS))


def _memo(held: list[Operation], rng: random.Random) -> list[Operation] | None:
    """What was kept under another number: keys, storages and tuples change places."""
    place = _chosen(held, rng, "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT")
    if place is None:
        return None
    code = b"h" if "GET" in held[place][0] else b"q"
    return _put(held, place, code + bytes((rng.randrange(min(256, len(held))),)))


def _removed(held: list[Operation], rng: random.Random) -> list[Operation]:
    place = rng.randrange(1, len(held))
    return [*held[:place], *held[place + 1 :]]


def _repeated(held: list[Operation], rng: random.Random) -> list[Operation]:
    place = rng.randrange(1, len(held))
    return [*held[: place + 1], *held[place:]]


def _replaced(held: list[Operation], rng: random.Random) -> list[Operation]:
    """Another operation in the place of one."""
    codes = b"()0Nt}]a.esubRi\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94Q"
    return _put(held, rng.randrange(1, len(held)), bytes((rng.choice(codes),)))


def _state(held: list[Operation], rng: random.Random) -> list[Operation]:
    """A state given to an object of torch or of the language, which would stay changed for all the process."""
    target = rng.choice(
        (
            b"ctorch\nfloat32\n",
            b"ctorch\nFloatStorage\n",
            b"ctorch\nSize\n",
            b"ccollections\nOrderedDict\n",
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            b"c_codecs\nencode\n",
            b"cbuiltins\nset\n",
            b"ctorch\nint64\n",
        )
    )
    state = rng.choice(
        (
            b"}" + text("is_floating_point") + text("no") + b"s",
            b"}" + text("__name__") + text("changed") + b"s",
            b"N}" + text("fuzzed") + number(1) + b"s\x86",
        )
    )
    return [held[0], _raw(target + state + b"b0"), *held[1:]]  # fmt: skip


def _shared(held: list[Operation], rng: random.Random) -> list[Operation]:
    """Lists that hold each other twice: few bytes that become very many entries once they are copied."""
    out = b"]q\xc8" + text("a") + b"a"
    for level in range(rng.choice((20, 60))):
        before, now = bytes((200 + level % 50,)), bytes((200 + (level + 1) % 50,))
        out += b"0]q" + now + b"(h" + before + b"h" + before + b"e"
    return _beside(held, out)


def _deep(held: list[Operation], rng: random.Random) -> list[Operation]:
    depth = rng.choice((100, 3000, 200_000))
    code = rng.choice((b"\x85", b"l"))
    out = b"N" + code * depth if code == b"\x85" else b"(" * depth + b"l" * depth
    return _beside(held, out)


def _itself(held: list[Operation], rng: random.Random) -> list[Operation]:
    return _beside(held, rng.choice((b"]q\xfah\xfaa", b"}q\xfa" + text("a") + b"h\xfas")))


def _huge(held: list[Operation], rng: random.Random) -> list[Operation]:
    """Operations that claim very much more than there is."""
    claims = (b"B\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\x7f",
    b"\x96" + b"\xff" * 6 + b"\0\0",
              b"r\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\x7f", b"I" + b"9" * 6000 + b"\n",
              b"\x95" + b"\xff" * 8)  # fmt: skip
    return [held[0], _raw(rng.choice(claims)), *held[1:]]


def _storage(held: list[Operation], rng: random.Random) -> list[Operation]:
    """A storage or a tensor made without data, of a size that nothing backs."""
    made = rng.choice(
        (
            b"ctorch.storage\nUntypedStorage\n" + number(2**36) + b"\x85R",
            b"ctorch\nFloatStorage\n" + number(2**34) + b"\x85R",
            b"cbuiltins\nbytearray\n" + number(2**36) + b"\x85R",
            b"ctorch\nSize\n](" + number(2**40) * 2 + b"e\x85R",
        )
    )
    return _beside(held, made)  # fmt: skip


def _beside(held: list[Operation], made: bytes) -> list[Operation]:
    """One entry more in what the pickle gives, where that is a dictionary; else another value in its place."""
    return [*held[:-1], _raw(b"0" + made + b"."), *held[-1:]] if len(held) < 4 else [
        held[0], held[1], _raw(text("more") + made + b"s"), *held[2:]
    ] if held[1][0] == "EMPTY_DICT" else [held[0], _raw(made + b"0"), *held[1:]]  # fmt: skip


CHANGES: dict[str, Change] = {
    "number": _numbers,
    "value": _floats,
    "text": _texts,
    "global": _globals,
    "memo": _memo,
    "operation removed": _removed,
    "operation repeated": _repeated,
    "operation replaced": _replaced,
    "state": _state,
    "shared lists": _shared,
    "deep": _deep,
    "itself": _itself,
    "huge claim": _huge,
    "storage": _storage,
}


def _in_zip(change: Change) -> Apply:
    """A change of the pickle in a torch file of today, whose checksums are right."""

    def apply(data: bytes, rng: random.Random) -> bytes | None:
        start = data.find(b"PK\3\4")
        entries = read_zip(data[start:])
        place = next((at for at, each in enumerate(entries or []) if each.name.endswith(b"data.pkl")), None)
        if not entries or place is None:
            return None
        found = operations(entries[place].content)
        changed = None if found is None else change(found[0], rng)
        if changed is None:
            return None
        pickled = entry(entries[place].name, joined(changed))
        return data[:start] + write_zip([*entries[:place], pickled, *entries[place + 1 :]])

    return apply


def _in_old(change: Change) -> Apply:
    """A change of one of the pickles at the beginning of a torch file of old."""

    def apply(data: bytes, rng: random.Random) -> bytes | None:
        parts: list[bytes] = []
        rest = data
        while len(parts) < 5 and (found := operations(rest)) is not None:
            parts.append(rest[: len(rest) - len(found[1])])
            rest = found[1]
        if not parts:
            return None
        # The fourth is the object itself; magic number, version, system and storages' keys are the others.
        place = rng.choice([*range(len(parts)), *[min(3, len(parts) - 1)] * 6])
        found = operations(parts[place])
        changed = None if found is None else change(found[0], rng)
        return None if changed is None else b"".join([*parts[:place], joined(changed), *parts[place + 1 :]]) + rest

    return apply


for _name, _change in CHANGES.items():
    mutation(f"torch.{_name}", honest=True)(_in_zip(_change))
    mutation(f"pickle.{_name}", honest=True)(_in_old(_change))


@mutation("torch.other pickle", honest=True)
def _other(data: bytes, rng: random.Random) -> bytes | None:
    """Another object altogether."""
    start = data.find(b"PK\3\4")
    entries = read_zip(data[start:])
    if not entries:
        return None
    value = rng.choice(
        ([], {}, None, 7, "text", {"a": {"b": [1, None]}}, {1: 2}, {("a", 1): b"x"}, {"k": float("nan")}, object)
    )
    pickled = pickle.dumps(value, protocol=2)
    return data[:start] + write_zip([
        entry(each.name, pickled) if each.name.endswith(b"data.pkl") else each for each in entries
    ])  # fmt: skip
