"""What damages a file: kinds of mutations, each a function of the file's bytes and of a source of random numbers.

A mutation is *honest* when what it makes is a well-formed file whose own checksums hold, and which therefore may
legitimately say something else than the file it was made from: a configuration with another number, an archive with a
member less. What a mutation that is not honest makes must never be read as other values where a checksum covers them.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Apply = Callable[[bytes, random.Random], bytes | None]
Expected = Literal["any", "refused", "equal"]


@dataclass(frozen=True)
class Mutation:
    """One way to damage a file.

    Attributes:
        name: ``kind.what``, by which a case is named and replayed.
        kind: the files it is for: ``bytes`` is for all.
        apply: the file's new content; None where there is nothing of that kind in it.
        honest: whether the result is a well-formed file that may say something else.
        expected: what a reader must do with it, where that is more than not failing.
    """

    name: str
    kind: str
    apply: Apply
    honest: bool = False
    expected: Expected = "any"


REGISTRY: dict[str, Mutation] = {}


def mutation(name: str, *, honest: bool = False, expected: Expected = "any") -> Callable[[Apply], Apply]:
    """Register a function as a mutation called ``kind.what``."""

    def register(apply: Apply) -> Apply:
        REGISTRY[name] = Mutation(name, name.partition(".")[0], apply, honest, expected)
        return apply

    return register


def of_kind(kind: str) -> list[Mutation]:
    """The mutations of one kind, in the order in which they were registered."""
    return [each for each in REGISTRY.values() if each.kind == kind]


# Bytes ---------------------------------------------------------------------------------------------------------------

EXTREMES = (0, 1, -1, 127, 255, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)


def stretch(data: bytes, rng: random.Random) -> tuple[int, int]:
    """The ends of a random part of at least one byte, mostly short."""
    first = rng.randrange(len(data))
    return first, min(len(data), first + rng.choice((1, 2, 4, 8, 16, 64, 512, 4096)))


@mutation("bytes.bit")
def _bit(data: bytes, rng: random.Random) -> bytes | None:
    if not data:
        return None
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


@mutation("bytes.bytes")
def _bytes(data: bytes, rng: random.Random) -> bytes | None:
    if not data:
        return None
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        changed[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(changed)


@mutation("bytes.head")
def _head(data: bytes, rng: random.Random) -> bytes | None:
    """One byte near the beginning, where formats keep what describes the rest."""
    if not data:
        return None
    changed = bytearray(data)
    changed[rng.randrange(min(len(data), 256))] = rng.randrange(256)
    return bytes(changed)


@mutation("bytes.tail")
def _tail(data: bytes, rng: random.Random) -> bytes | None:
    """One byte near the end, where archives and tables keep their directories."""
    if not data:
        return None
    changed = bytearray(data)
    changed[-1 - rng.randrange(min(len(data), 512))] = rng.randrange(256)
    return bytes(changed)


@mutation("bytes.cut")
def _cut(data: bytes, rng: random.Random) -> bytes | None:
    return data[: rng.randrange(len(data))] if data else None


@mutation("bytes.last cut")
def _last_cut(data: bytes, rng: random.Random) -> bytes | None:
    return data[: -rng.choice((1, 2, 4, 8, 16, 512))] if len(data) > 1 else None


@mutation("bytes.first cut")
def _first_cut(data: bytes, rng: random.Random) -> bytes | None:
    return data[rng.choice((1, 2, 4, 8, 512)) :] if len(data) > 1 else None


@mutation("bytes.inserted")
def _inserted(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 7, 64, 700))) + data[at:]


@mutation("bytes.appended")
def _appended(data: bytes, rng: random.Random) -> bytes:
    return data + rng.choice((b"\0", b"\n", b" ", b"\0" * 512, rng.randbytes(40)))


@mutation("bytes.repeated")
def _repeated(data: bytes, rng: random.Random) -> bytes | None:
    if not data:
        return None
    first, last = stretch(data, rng)
    return data[:last] + data[first:last] + data[last:]


@mutation("bytes.removed")
def _removed(data: bytes, rng: random.Random) -> bytes | None:
    if not data:
        return None
    first, last = stretch(data, rng)
    return data[:first] + data[last:]


@mutation("bytes.filled")
def _filled(data: bytes, rng: random.Random) -> bytes | None:
    if not data:
        return None
    first, last = stretch(data, rng)
    return data[:first] + rng.choice((b"\0", b"\xff")) * (last - first) + data[last:]


@mutation("bytes.swapped")
def _swapped(data: bytes, rng: random.Random) -> bytes | None:
    if len(data) < 4:
        return None
    one, two, three, four = sorted(rng.sample(range(len(data) + 1), 4))
    return data[:one] + data[three:four] + data[two:three] + data[one:two] + data[four:]


@mutation("bytes.number")
def _number(data: bytes, rng: random.Random) -> bytes | None:
    """An extreme whole number over some bytes, in either order."""
    size = rng.choice((1, 2, 4, 8))
    if len(data) < size:
        return None
    value = rng.choice(EXTREMES) % 2 ** (8 * size)
    at = rng.randrange(len(data) - size + 1)
    return data[:at] + value.to_bytes(size, rng.choice(("little", "big"))) + data[at + size :]


# Text ----------------------------------------------------------------------------------------------------------------


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _on_lines(change: Callable[[list[str], random.Random], list[str]]) -> Apply:
    def apply(data: bytes, rng: random.Random) -> bytes | None:
        text = _text(data)
        if not text:
            return None
        return "\n".join(change(text.split("\n"), rng)).encode("utf-8", "surrogatepass")

    return apply


@mutation("text.mark", honest=True, expected="equal")
def _mark(data: bytes, rng: random.Random) -> bytes | None:
    """What editors on Windows write: a byte order mark, in the encoding that it stands for."""
    text = _text(data)
    if text is None:
        return None
    return ("\ufeff" + text).encode(rng.choice(("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")))


@mutation("text.ends", honest=True, expected="equal")
def _ends(data: bytes, rng: random.Random) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\n", rng.choice((b"\r\n", b"\r")))


@mutation("text.encoding", honest=True)
def _encoding(data: bytes, rng: random.Random) -> bytes | None:
    """Another encoding without a mark."""
    text = _text(data)
    return None if text is None else text.encode(rng.choice(("utf-16-le", "utf-32-be", "cp500", "utf-7")), "replace")


@mutation("text.foreign bytes", honest=True)
def _foreign(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    odd = (b"\xe9", b"\xff\xfe", b"\x00", b"\xed\xa0\x80", b"\x1a", b"\xc2\x85", b"\xe2\x80\xa8", b"\x0b", b"\x1b[31m")
    return data[:at] + rng.choice(odd) + data[at:]


@mutation("text.line repeated", honest=True)
@_on_lines
def _line_repeated(lines: list[str], rng: random.Random) -> list[str]:
    at = rng.randrange(len(lines))
    return lines[: at + 1] + lines[at:]


@mutation("text.line removed", honest=True)
@_on_lines
def _line_removed(lines: list[str], rng: random.Random) -> list[str]:
    at = rng.randrange(len(lines))
    return lines[:at] + lines[at + 1 :]


@mutation("text.lines in another order", honest=True)
@_on_lines
def _lines_shuffled(lines: list[str], rng: random.Random) -> list[str]:
    return rng.sample(lines, len(lines))


@mutation("text.line of odd text", honest=True)
@_on_lines
def _odd_line(lines: list[str], rng: random.Random) -> list[str]:
    odd = (
        "",
        " ",
        "\t",
        "x" * 100_000,
        "../../../etc/passwd",
        "a\0b",
        "# remark",
        "{}",
        "{}{}",
        "\ud800",
        "-1",
        "1e999",
    )
    at = rng.randrange(len(lines) + 1)
    return [*lines[:at], rng.choice(odd), *lines[at:]]


@mutation("text.word", honest=True)
@_on_lines
def _word(lines: list[str], rng: random.Random) -> list[str]:
    """Another word in a line: numbers out of range, paths that lead away, nothing."""
    at = rng.randrange(len(lines))
    words = lines[at].split(" ")
    odd = (
        "-1",
        "0",
        "nan",
        "inf",
        "1.5",
        "9" * 30,
        "9" * 5000,
        "../x",
        "/etc/passwd",
        "",
        "None",
        "é",
        "\0",
        "٣",
        "a,b",
    )
    words[rng.randrange(len(words))] = rng.choice(odd)
    return [*lines[:at], " ".join(words), *lines[at + 1 :]]


@mutation("text.white space", honest=True)
@_on_lines
def _white(lines: list[str], rng: random.Random) -> list[str]:
    at = rng.randrange(len(lines))
    blank = rng.choice(("\t", "  ", "\u00a0", "\u3000", "\x0c"))
    return [*lines[:at], blank + lines[at].replace(" ", blank) + blank, *lines[at + 1 :]]


# Places --------------------------------------------------------------------------------------------------------------
# What stands where the file stood; these change the folder and have no bytes to give.


def another(path: Path) -> Path | None:
    """The first of the other files of the same suffix beside one."""
    others = sorted(each for each in path.parent.glob(f"*{path.suffix}") if each.is_file() and each != path)
    return others[0] if others else None


def change_place(path: Path, what: str) -> None:
    """Put something else in a file's place: one of `PLACES`."""
    other = another(path)
    content = path.read_bytes()
    path.unlink()
    if what == "place.empty":
        path.touch()
    elif what == "place.folder":
        path.mkdir()
    elif what == "place.dangling link":
        path.symlink_to("nowhere")
    elif what == "place.link to itself":
        path.symlink_to(path.name)
    elif what == "place.pipe":
        os.mkfifo(path)
    elif what == "place.link":  # to the same bytes: an input like any other
        kept = path.with_name(f".kept-{path.name}")
        kept.write_bytes(content)
        path.symlink_to(kept.name)
    elif what == "place.another file" and other is not None:
        shutil.copyfile(other, path)
    elif what != "place.removed":
        raise ValueError(what)


PLACES = (
    "place.removed", "place.empty", "place.folder", "place.dangling link", "place.link to itself", "place.pipe",
    "place.link", "place.another file",
)  # fmt: skip
