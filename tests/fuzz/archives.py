"""Mutations of archives: zip files, as torch and numpy write them, and tar files."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from fuzz.mutations import EXTREMES, Apply, mutation

# Zip -----------------------------------------------------------------------------------------------------------------

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
# A member of so many zero bytes takes two megabytes here and would take all memory there.
_BOMB_BLOCKS, _BLOCK = 2900, 1 << 20


@dataclass(frozen=True)
class Entry:
    """A member of a zip file as it is written: what headers say is not derived from what they describe."""

    name: bytes
    content: bytes
    size: int
    crc: int
    method: int = 0
    flags: int = 0
    stored_size: int | None = None


def entry(name: bytes, content: bytes) -> Entry:
    """A member that is stored as it is."""
    return Entry(name, content, len(content), zlib.crc32(content))


def read_zip(data: bytes) -> list[Entry] | None:
    """The members of a whole zip file, whatever is before it; None for anything else."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [entry(each.filename.encode(), archive.read(each)) for each in archive.infolist()]
    except (zipfile.BadZipFile, OSError, RuntimeError):
        return None


def before_zip(data: bytes) -> bytes:
    """What is before an archive, such as a line that describes it."""
    return data[: max(data.find(b"PK\3\4"), 0)]


def write_zip(entries: list[Entry], comment: bytes = b"", count: int | None = None) -> bytes:
    """A zip file, each member's content at a multiple of 64 bytes, as torch wants it."""
    out, central = bytearray(), bytearray()
    for each in entries:
        stored = len(each.content) if each.stored_size is None else each.stored_size
        sizes = (each.crc, stored, each.size)
        place = len(out)
        padding = -(place + _LOCAL.size + len(each.name) + 4) % 64
        extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        name = each.name
        out += _LOCAL.pack(b"PK\3\4", 20, each.flags, each.method, 0, 0x21, *sizes, len(name), len(extra))
        out += name + extra + each.content
        central += _CENTRAL.pack(
            b"PK\1\2", 20, 20, each.flags, each.method, 0, 0x21, *sizes, len(name), 0, 0, 0, 0, 0, place
        )
        central += name
    number = (len(entries) if count is None else count) & 0xFFFF
    end = _END.pack(b"PK\5\6", 0, 0, number, number, len(central), len(out), len(comment))
    return bytes(out + central) + end + comment


def on_entries(change: Callable[[list[Entry], random.Random], list[Entry] | None]) -> Apply:
    """A mutation from a function that changes the members; what is before the archive stays."""

    def apply(data: bytes, rng: random.Random) -> bytes | None:
        entries = read_zip(data)
        changed = change(entries, rng) if entries else None
        return None if changed is None else before_zip(data) + write_zip(changed)

    return apply


def _one(change: Callable[[Entry, random.Random], list[Entry]]) -> Apply:
    """A mutation from a function that puts something in one member's place."""

    def all_of_them(entries: list[Entry], rng: random.Random) -> list[Entry]:
        place = rng.randrange(len(entries))
        return [*entries[:place], *change(entries[place], rng), *entries[place + 1 :]]

    return on_entries(all_of_them)


@mutation("zip.written anew", honest=True, expected="equal")
@on_entries
def _anew(entries: list[Entry], rng: random.Random) -> list[Entry]:
    return entries


@mutation("zip.member removed", honest=True)
@_one
def _member_removed(each: Entry, rng: random.Random) -> list[Entry]:
    return []


@mutation("zip.member renamed", honest=True)
@_one
def _member_renamed(each: Entry, rng: random.Random) -> list[Entry]:
    folder, slash, base = each.name.rpartition(b"/")
    name = rng.choice([b"../" + each.name, folder + slash + b"x", base, each.name + b"\0x", b"\xff" + each.name, b""])
    return [replace(each, name=name)]


@mutation("zip.member twice", honest=True)
@_one
def _member_twice(each: Entry, rng: random.Random) -> list[Entry]:
    content = bytearray(each.content)
    if content:
        content[rng.randrange(len(content))] ^= 0xFF
    return [each, entry(each.name, bytes(content))]


@mutation("zip.members in another order", honest=True, expected="equal")
@on_entries
def _members_shuffled(entries: list[Entry], rng: random.Random) -> list[Entry]:
    return rng.sample(entries, len(entries))


@mutation("zip.member emptied", honest=True)
@_one
def _emptied(each: Entry, rng: random.Random) -> list[Entry]:
    return [entry(each.name, b"")]


@mutation("zip.member cut", honest=True)
@_one
def _member_cut(each: Entry, rng: random.Random) -> list[Entry]:
    return [entry(each.name, each.content[: rng.randrange(len(each.content) + 1)])]


@mutation("zip.member longer", honest=True)
@_one
def _member_longer(each: Entry, rng: random.Random) -> list[Entry]:
    return [entry(each.name, each.content + rng.randbytes(rng.choice((1, 64))))]


@mutation("zip.content changed")
@_one
def _content_changed(each: Entry, rng: random.Random) -> list[Entry]:
    """A bit of a member's content, which its checksum tells."""
    content = bytearray(each.content)
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return [replace(each, content=bytes(content))]


@mutation("zip.checksum")
@_one
def _checksum(each: Entry, rng: random.Random) -> list[Entry]:
    return [replace(each, crc=rng.choice((0, each.crc ^ 1, 2**32 - 1)))]


@mutation("zip.size")
@_one
def _size(each: Entry, rng: random.Random) -> list[Entry]:
    size = rng.choice((0, each.size + 1, max(each.size - 1, 0), 2**31 - 1, 2**32 - 1, 2**32 - 2))
    return [replace(each, size=size) if rng.random() < 0.5 else replace(each, size=size, stored_size=size)]


@mutation("zip.method")
@_one
def _method(each: Entry, rng: random.Random) -> list[Entry]:
    return [replace(each, method=rng.choice((1, 8, 9, 12, 14, 93, 99)))]


@mutation("zip.flags")
@_one
def _flags(each: Entry, rng: random.Random) -> list[Entry]:
    return [replace(each, flags=rng.choice((1, 8, 0x40, 0x800, 0xFFFF)))]


@mutation("zip.compressed", honest=True)
@on_entries
def _compressed(entries: list[Entry], rng: random.Random) -> list[Entry]:
    """Every member deflated, with the sizes and checksums that belong to it."""
    return [replace(each, content=_deflated(each.content), method=8) for each in entries]


@mutation("zip.bomb", honest=True)
@_one
def _bomb(each: Entry, rng: random.Random) -> list[Entry]:
    """A member of 2.8 GiB of zeros in a few megabytes."""
    content = _full_block() * _BOMB_BLOCKS + zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    return [replace(each, content=content, size=_BOMB_BLOCKS * _BLOCK, method=8, crc=0)]


@mutation("zip.entries")
def _entries(data: bytes, rng: random.Random) -> bytes | None:
    """Another number of members than there are."""
    entries = read_zip(data)
    return (
        None
        if entries is None
        else before_zip(data) + write_zip(entries, count=rng.choice((0, len(entries) + 1, 1, 65535)))
    )


@mutation("zip.around", honest=True, expected="equal")
def _around(data: bytes, rng: random.Random) -> bytes | None:
    """A comment at the end, as any zip file may have."""
    entries = read_zip(data)
    return (
        None if entries is None else before_zip(data) + write_zip(entries, comment=rng.randbytes(rng.choice((1, 100))))
    )


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def _full_block() -> bytes:
    """One block of zeros that can be repeated: nothing in it refers to what was before."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(_BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)


# Tar -----------------------------------------------------------------------------------------------------------------

_TAR_BLOCK = 512
# Where the fields of a header are.
_FIELDS = {
    "name": (0, 100), "mode": (100, 108), "uid": (108, 116), "size": (124, 136), "mtime": (136, 148), "sum": (148, 156),
    "type": (156, 157), "link": (157, 257), "magic": (257, 265), "prefix": (345, 500),
}  # fmt: skip


def split_tar(data: bytes) -> list[bytes]:
    """The members of a whole tar, each with its header; the mark of its end is left out."""
    members, place = [], 0
    while place + _TAR_BLOCK <= len(data) and any(data[place : place + _TAR_BLOCK]):
        size = int(data[place + 124 : place + 135] or b"0", 8)
        end = place + _TAR_BLOCK + -(-size // _TAR_BLOCK) * _TAR_BLOCK
        members.append(data[place:end])
        place = end
    return members


def join_tar(members: list[bytes]) -> bytes:
    """A tar of members, with the mark of its end."""
    return b"".join(members) + bytes(2 * _TAR_BLOCK)


def with_field(member: bytes, name: str, value: bytes) -> bytes:
    """A member with another value in its header, whose checksum is right unless it is what was changed."""
    first, last = _FIELDS[name]
    header = bytearray(member[:_TAR_BLOCK])
    header[first:last] = value[: last - first].ljust(last - first, b"\0")
    if name != "sum":
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + member[_TAR_BLOCK:]


def make_member(name: bytes, content: bytes, kind: bytes = b"0") -> bytes:
    """A member of any type."""
    header = bytearray(_TAR_BLOCK)
    header[: len(name[:100])] = name[:100]
    header[100:108], header[124:136], header[257:265] = b"0000644\0", b"%011o\0" % len(content), b"ustar\x0000"
    padded = content + bytes(-len(content) % _TAR_BLOCK)
    return with_field(bytes(header) + padded, "type", kind)


def on_members(change: Callable[[list[bytes], random.Random], list[bytes] | None]) -> Apply:
    """A mutation from a function that changes a tar's members."""

    def apply(data: bytes, rng: random.Random) -> bytes | None:
        members = split_tar(data)
        changed = change(members, rng) if members else None
        return None if changed is None else join_tar(changed)

    return apply


@mutation("tar.field", honest=True)
@on_members
def _field(members: list[bytes], rng: random.Random) -> list[bytes]:
    at, name = rng.randrange(len(members)), rng.choice(list(_FIELDS))
    number = b"%011o" % (rng.choice(EXTREMES) % 2**33)
    large = b"\x80" + (rng.choice(EXTREMES) % 2**88).to_bytes(11, "big")
    value = rng.choice([
        number, large, b"-0000000001", b"", b" ", b"99999999999", b"\xff" * 12, b"\0" * 12, b"x" * 200, b"../../x",
        b"/",
        b".", b"..", b"\xff\xfe.png", b"a.png\0b", b"5", b"S", b"x", b"g", b"L", b"K", b"7", b"V", b"ustar  \0",
        b"a\n.png",
    ])  # fmt: skip
    members[at] = with_field(members[at], name, value)
    return members


@mutation("tar.member repeated", honest=True)
@on_members
def _tar_repeated(members: list[bytes], rng: random.Random) -> list[bytes]:
    at = rng.randrange(len(members))
    return [*members, members[at]]


@mutation("tar.member removed", honest=True)
@on_members
def _tar_removed(members: list[bytes], rng: random.Random) -> list[bytes]:
    members.pop(rng.randrange(len(members)))
    return members


@mutation("tar.members in another order", honest=True)
@on_members
def _tar_shuffled(members: list[bytes], rng: random.Random) -> list[bytes]:
    return rng.sample(members, len(members))


@mutation("tar.no end")
def _no_end(data: bytes, rng: random.Random) -> bytes | None:
    return b"".join(split_tar(data)) or None


@mutation("tar.after the end", honest=True, expected="equal")
def _after(data: bytes, rng: random.Random) -> bytes:
    """What tapes and careless tools leave after the end: zeros."""
    return join_tar(split_tar(data)) + bytes(_TAR_BLOCK * rng.choice((1, 18, 40)))


@mutation("tar.pax", honest=True)
@on_members
def _pax(members: list[bytes], rng: random.Random) -> list[bytes]:
    """A pax header before a member: records of all kinds, and records that are none."""
    keys = [
        b"path",
        b"size",
        b"linkpath",
        b"hdrcharset",
        b"GNU.sparse.major",
        b"mtime",
        b"comment",
        b"SCHILY.xattr.a",
        b"",
    ]
    values = [b"x.png", b"-1", b"1" * 30, b"", b"\xff", b"BINARY", b"a=b\n", b"x" * 3000, b"../x.png", b"0", b"nan"]
    records = b"".join(_record(rng.choice(keys), rng.choice(values)) for _ in range(rng.choice((1, 2, 5))))
    broken = rng.choice(
        [records, records, records, records[:-1], b"9999 " + records, b"3 a\n", b"0 =\n", b"-5 a=b\n", b"x"]
    )
    at = rng.randrange(len(members) + 1)
    return [*members[:at], make_member(b"PaxHeaders/x", broken, rng.choice((b"x", b"x", b"g"))), *members[at:]]


@mutation("tar.long pax", honest=True)
@on_members
def _long_pax(members: list[bytes], rng: random.Random) -> list[bytes]:
    """Very many records: reading must not take the square of their number."""
    content = b"".join(_record(b"comment%d" % number, b"x" * 8) for number in range(60_000))
    return [make_member(b"PaxHeaders/x", content, b"x"), *members]


@mutation("tar.long name", honest=True)
@on_members
def _long_name(members: list[bytes], rng: random.Random) -> list[bytes]:
    name = rng.choice([b"x" * 300 + b".png", b"", b"\0", b"a/" * 4000 + b"x.png", b"\xff" * 10, b"x.png\0y"])
    at = rng.randrange(len(members))
    kind = rng.choice((b"L", b"L", b"K"))
    return [*members[:at], make_member(b"././@LongLink", name, kind), *members[at:]]


@mutation("tar.other types", honest=True)
@on_members
def _others(members: list[bytes], rng: random.Random) -> list[bytes]:
    """A link, a device, a pipe or a folder by the name of a picture."""
    made = make_member(b"odd.png", b"", rng.choice((b"1", b"2", b"3", b"4", b"5", b"6", b"S", b"D", b"M", b"\xff")))
    return [with_field(made, "link", rng.choice((b"/etc/passwd", b"odd.png", b""))), *members]


def _record(key: bytes, value: bytes) -> bytes:
    """``length key=value``, whose length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest
