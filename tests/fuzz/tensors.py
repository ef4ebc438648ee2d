"""Mutations of files of arrays: safetensors, ``.npy`` and ``.npz``."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from typing import Any

from fuzz import json_mutations
from fuzz.archives import Entry, entry, read_zip, write_zip
from fuzz.mutations import EXTREMES, REGISTRY, Apply, mutation

# Safetensors ---------------------------------------------------------------------------------------------------------

_WORDS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8", "BOOL", "F8_E4M3", "U64", "C64", "F4", "", "f32", "X")


def read_safetensors(data: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Header and tensors' bytes; None for anything else."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError:
        return None
    return (header, data[8 + length :]) if isinstance(header, dict) else None


def write_safetensors(header: Any, body: bytes) -> bytes:
    """A file of a header, given as JSON text or value, and of tensors' bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def _on_header(change: Callable[[dict[str, Any], bytes, random.Random], tuple[Any, bytes] | None]) -> Apply:
    def apply(data: bytes, rng: random.Random) -> bytes | None:
        found = read_safetensors(data)
        changed = None if found is None else change(*found, rng)
        return None if changed is None else write_safetensors(*changed)

    return apply


def _tensors(header: dict[str, Any]) -> list[str]:
    return [name for name in header if name != "__metadata__"]


@mutation("safetensors.type", honest=True)
@_on_header
def _type(header: dict[str, Any], body: bytes, rng: random.Random) -> tuple[Any, bytes]:
    """Another type, which the size of the tensor fits or does not."""
    tensor = header[rng.choice(_tensors(header))]
    tensor["dtype"] = rng.choice(_WORDS)
    if rng.random() < 0.6:
        size = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2}.get(tensor["dtype"], 1)
        count = (tensor["data_offsets"][1] - tensor["data_offsets"][0]) // size
        tensor["shape"] = [count] if len(tensor["shape"]) < 2 else [count, 1]
    return header, body


@mutation("safetensors.shape", honest=True)
@_on_header
def _shape(header: dict[str, Any], body: bytes, rng: random.Random) -> tuple[Any, bytes]:
    tensor = header[rng.choice(_tensors(header))]
    shape = tensor["shape"]
    count = math.prod(shape)
    tensor["shape"] = rng.choice([
        shape[::-1], [count], [1, count], [count, 1], [1, *shape], [], [0], [-1], [2**62, 2],
        [shape[0] * 2 if shape else 2],
        [*shape, 2], [0, *shape], ["6"], None, [1.0], [True],
    ])  # fmt: skip
    return header, body


@mutation("safetensors.offsets", honest=True)
@_on_header
def _offsets(header: dict[str, Any], body: bytes, rng: random.Random) -> tuple[Any, bytes]:
    """Overlapping, reversed, beyond the end, with gaps, or another tensor's."""
    names = _tensors(header)
    tensor, other = header[rng.choice(names)], header[rng.choice(names)]
    first, last = tensor["data_offsets"]
    tensor["data_offsets"] = rng.choice([
        list(other["data_offsets"]), [last, first], [first + 4, last + 4], [first, last + 4], [first, first],
        [-4, last], [0, len(body)], [first, 2**63], [first], [first, last, last], "text", [0.0, 4.0],
    ])  # fmt: skip
    return header, body


@mutation("safetensors.name", honest=True)
@_on_header
def _name(header: dict[str, Any], body: bytes, rng: random.Random) -> tuple[Any, bytes]:
    name = rng.choice(_tensors(header))
    new = rng.choice([name + "x", "", f"module.{name}", name.upper(), "a\nb", "../x", "\0", "__metadata__", name * 300])
    return {new if key == name else key: value for key, value in header.items()}, body


@mutation("safetensors.tensor removed", honest=True)
@_on_header
def _removed(header: dict[str, Any], body: bytes, rng: random.Random) -> tuple[Any, bytes]:
    """A tensor less, and its bytes too."""
    gone = header.pop(rng.choice(_tensors(header)))
    first, last = gone["data_offsets"]
    for name in _tensors(header):
        offsets = header[name]["data_offsets"]
        if offsets[0] >= last:
            header[name]["data_offsets"] = [offset - (last - first) for offset in offsets]
    return header, body[:first] + body[last:]


@mutation("safetensors.tensor added", honest=True)
@_on_header
def _added(header: dict[str, Any], body: bytes, rng: random.Random) -> tuple[Any, bytes]:
    """A tensor that the reader does not know."""
    size = rng.choice((4, 24, 56))
    name = rng.choice(("unheard_of", "topk_threshold_of_it", "encoder.unheard_of.weight"))
    header[name] = {"dtype": "F32", "shape": [size // 4], "data_offsets": [len(body), len(body) + size]}
    return header, body + struct.pack("<f", 0.25) * (size // 4)


@mutation("safetensors.values", honest=True)
@_on_header
def _values(header: dict[str, Any], body: bytes, rng: random.Random) -> tuple[Any, bytes] | None:
    """A value of a float32 tensor that is none, or as large or as small as there are."""
    names = [name for name in _tensors(header) if header[name]["dtype"] == "F32" and math.prod(header[name]["shape"])]
    if not names:
        return None
    first, last = header[rng.choice(names)]["data_offsets"]
    value = struct.pack("<f", rng.choice((math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-40, 0.0, -1.0, 1.0, 100.0)))
    if rng.random() < 0.3:
        return header, body[:first] + value * ((last - first) // 4) + body[last:]
    at = first + 4 * rng.randrange((last - first) // 4)
    return header, body[:at] + value + body[at + 4 :]


@mutation("safetensors.metadata", honest=True)
@_on_header
def _metadata(header: dict[str, Any], body: bytes, rng: random.Random) -> tuple[Any, bytes]:
    """What is said beside the tensors: no texts, or texts that are JSON themselves and say something else."""
    held = header.get("__metadata__")
    texts = [key for key, text in (held or {}).items() if isinstance(text, str) and text[:1] in '{["0123456789nt']
    if texts and rng.random() < 0.8:
        key = rng.choice(texts)
        names = [name for name in sorted(REGISTRY) if name.startswith("json.")]
        changed = REGISTRY[rng.choice(names)].apply(held[key].encode(), rng)
        held[key] = (changed or b"").decode("utf-8", "replace")
    else:
        header["__metadata__"] = rng.choice(
            [None, {}, [], {"a": 1}, {"names": "[]"}, "text", {"format": "np"}, {"state": "{}"}]
        )
    return header, body


@mutation("safetensors.header as text", honest=True)
def _header_text(data: bytes, rng: random.Random) -> bytes | None:
    """A JSON mutation of the whole header."""
    found = read_safetensors(data)
    if found is None:
        return None
    names = [name for name in sorted(REGISTRY) if name.startswith("json.")]
    text = REGISTRY[rng.choice(names)].apply(json.dumps(found[0]).encode(), rng)
    return None if text is None else write_safetensors(text, found[1])


@mutation("safetensors.length")
def _length(data: bytes, rng: random.Random) -> bytes:
    """Another length of the header than it has."""
    length = int.from_bytes(data[:8], "little")
    return (rng.choice([length - 1, length + 1, length + 8, *EXTREMES]) % 2**64).to_bytes(8, "little") + data[8:]


@mutation("safetensors.padded", honest=True, expected="equal")
@_on_header
def _padded(header: dict[str, Any], body: bytes, rng: random.Random) -> tuple[Any, bytes]:
    return json.dumps(header).encode() + b" " * (8 * rng.choice((1, 100))), body


# Npy -----------------------------------------------------------------------------------------------------------------


def read_npy(data: bytes) -> tuple[bytes, bytes] | None:
    """Header text and values' bytes; None for anything else."""
    if data[:6] != b"\x93NUMPY" or len(data) < 10:
        return None
    wide = data[6] > 1
    length = int.from_bytes(data[8:12] if wide else data[8:10], "little")
    start = 12 if wide else 10
    return data[start : start + length], data[start + length :]


def write_npy(header: bytes, body: bytes, version: int = 1) -> bytes:
    """An ``.npy`` file of a header's text and of values' bytes."""
    size = 2 if version == 1 else 4
    header = header.rstrip()
    header += b" " * (-(8 + size + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY" + bytes((version, 0)) + (len(header) % 256**size).to_bytes(size, "little") + header + body


def _on_npy(change: Callable[[bytes, bytes, random.Random], tuple[bytes, bytes] | None]) -> Apply:
    def apply(data: bytes, rng: random.Random) -> bytes | None:
        found = read_npy(data)
        changed = None if found is None else change(*found, rng)
        return None if changed is None else write_npy(*changed)

    return apply


def _described(header: bytes) -> dict[str, Any]:
    import ast

    value = ast.literal_eval(header.decode("latin1").strip())
    assert isinstance(value, dict)
    return value


def _header(described: dict[str, Any]) -> bytes:
    return repr(described).encode("latin1", "replace")


@mutation("npy.type", honest=True)
@_on_npy
def _npy_type(header: bytes, body: bytes, rng: random.Random) -> tuple[bytes, bytes]:
    descr = rng.choice([
        "<f8", ">f4", ">f8", "<f2", "<f4", "|O", "<U5", "|S4", "<M8[ns]", "<c8", "|V4", "|b1", "<i4", "<u8", "|i1",
        "f4,f4",
        [("a", "<f4")], [("a", "<f4", (2,))], "<f16", "<U999999999", "", "x", 7, None, ("<f4", (3,)), {"names": []},
        "O8",
    ])  # fmt: skip
    return _header(_described(header) | {"descr": descr}), body


@mutation("npy.shape", honest=True)
@_on_npy
def _npy_shape(header: bytes, body: bytes, rng: random.Random) -> tuple[bytes, bytes]:
    described = _described(header)
    shape = described["shape"]
    count = math.prod(shape)
    shapes = [
        shape[::-1], (count,), (1, *shape), (*shape, 1), (), (0,), (0, 5), (-1,), (-1, -1), (2**40, 2**40), (2**62,),
        (count, 0),
        (count // 2,), (2 * count,), [count], None, (1.0,), ("3",), (True, count), (10**30,), (2**31, 2), (*shape, 2),
    ]  # fmt: skip
    return _header(described | {"shape": rng.choice(shapes)}), body


@mutation("npy.order", honest=True)
@_on_npy
def _npy_order(header: bytes, body: bytes, rng: random.Random) -> tuple[bytes, bytes]:
    return _header(_described(header) | {"fortran_order": rng.choice((True, 1, "no", None))}), body


@mutation("npy.header", honest=True)
@_on_npy
def _npy_header(header: bytes, body: bytes, rng: random.Random) -> tuple[bytes, bytes]:
    """A header that is no description, or one that takes long to read."""
    odd = [
        b"", b"None", b"[]", b"{}", b"{'descr': '<f4'}", b"(" * 3000, b"[" * 60_000, b"{" * 200 + b"}" * 200,
        b"-" * 9000 + b"1",
        header.strip() + b"x", b"__import__('os').getcwd()", header.replace(b"}", b"'more': 1}"), b"\xff" * 20, b"'\\x",
        b"\0" + header, header.replace(b"'", b'"'), header.replace(b"(", b"(((((("),
    ]  # fmt: skip
    return rng.choice(odd), body


@mutation("npy.version")
def _npy_version(data: bytes, rng: random.Random) -> bytes | None:
    found = read_npy(data)
    if found is None:
        return None
    if rng.random() < 0.5:
        return write_npy(*found, version=rng.choice((2, 3)))
    return data[:6] + bytes((rng.choice((0, 2, 4, 9, 255)), rng.choice((0, 1)))) + data[8:]


@mutation("npy.values", honest=True)
@_on_npy
def _npy_values(header: bytes, body: bytes, rng: random.Random) -> tuple[bytes, bytes] | None:
    if len(body) < 8:
        return None
    code = rng.choice(("<f", "<d"))
    value = struct.pack(code, rng.choice((math.nan, math.inf, -math.inf, 3e38, 1e-40, 0.0, -1.0)))
    at = rng.randrange(len(body) // len(value)) * len(value)
    if rng.random() < 0.3:
        return header, value * (len(body) // len(value))
    return header, body[:at] + value + body[at + len(value) :]


@mutation("npy.rows", honest=True)
@_on_npy
def _npy_rows(header: bytes, body: bytes, rng: random.Random) -> tuple[bytes, bytes] | None:
    """A row less or more, with a header that says so."""
    described = _described(header)
    shape = described["shape"]
    if not shape or not shape[0] or not body:
        return None
    row = len(body) // shape[0]
    more = rng.random() < 0.5
    return _header(described | {"shape": (shape[0] + (1 if more else -1), *shape[1:])}), body + body[
        :row
    ] if more else body[:-row]


# Npz -----------------------------------------------------------------------------------------------------------------


@mutation("npz.array", honest=True)
def _npz_array(data: bytes, rng: random.Random) -> bytes | None:
    """A mutation of one of its arrays, in an archive whose checksums are right."""
    entries = read_zip(data)
    if not entries:
        return None
    place = rng.randrange(len(entries))
    names = [name for name in sorted(REGISTRY) if name.startswith("npy.")]
    changed = REGISTRY[rng.choice(names)].apply(entries[place].content, rng)
    if changed is None:
        return None
    return write_zip([*entries[:place], entry(entries[place].name, changed), *entries[place + 1 :]])


@mutation("npz.array added", honest=True)
def _npz_added(data: bytes, rng: random.Random) -> bytes | None:
    entries: list[Entry] | None = read_zip(data)
    if not entries:
        return None
    return write_zip([*entries, entry(rng.choice((b"more.npy", b"more", b"a/b.npy")), entries[0].content)])


assert json_mutations.ODD  # imported for what it registers
