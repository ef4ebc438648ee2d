import io
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infoscope.errors import InfoscopeError
from infoscope.images import tar
from infoscope.images.tar import tar_members

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def pack(path, files, kind=tarfile.USTAR_FORMAT, **attributes):
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in files:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            for key, value in attributes.items():
                setattr(header, key, value)
            tar.addfile(header, io.BytesIO(content))
    return path


def as_tarfile_reads(path):
    with tarfile.open(path) as tar:
        return [(m.name.encode("utf-8", "surrogateescape"), m.offset_data, m.size) for m in tar if m.isreg()]


names = st.lists(st.text("aé/.-_日 0", min_size=1, max_size=60), min_size=1, max_size=4).map("/".join)


@given(files=st.lists(st.tuples(names, st.binary(max_size=1500)), max_size=6), kind=st.sampled_from(FORMATS[1:]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_members_are_those_that_tarfile_finds(tmp_path, files, kind):
    files = [(name.strip("/") or "x", content) for name, content in files]
    path = pack(tmp_path / "x.tar", files, kind, mtime=1.5 if kind == tarfile.PAX_FORMAT else 1)
    members = list(tar_members(path))
    assert members == as_tarfile_reads(path)
    data = path.read_bytes()
    assert [data[m.offset : m.offset + m.size] for m in members] == [content for _, content in files]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["a" * 100, "d" * 120 + "/" + "n" * 100, "é/日.jpg", "f/" * 80 + "x.png"])
def test_long_and_foreign_names(tmp_path, kind, name):
    path = pack(tmp_path / "x.tar", [(name, b"1"), ("after", b"22")], kind)
    members = list(tar_members(path))
    assert [m.name.decode() for m in members] == [name, "after"]
    assert members == as_tarfile_reads(path)


def test_only_regular_files_count(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", pax_headers={"comment": "all of it"}) as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            header = tarfile.TarInfo(f"of kind {kind!r}")
            header.type, header.linkname = kind, "l" * 150
            tar.addfile(header)
        header = tarfile.TarInfo("file")
        header.size = 1
        tar.addfile(header, io.BytesIO(b"1"))
    assert list(tar_members(tmp_path / "x.tar")) == as_tarfile_reads(tmp_path / "x.tar")
    assert [member.name for member in tar_members(tmp_path / "x.tar")] == [b"file"]


@pytest.mark.parametrize("kind", FORMATS[1:])
def test_content_is_stepped_over_whatever_its_size(tmp_path, kind):
    header = tarfile.TarInfo("huge")
    header.size = 9 * 2**40  # more than octal digits hold, and than could be read here
    after = tarfile.TarInfo("after")
    with (tmp_path / "x.tar").open("wb") as file:  # its content is a hole
        file.write(header.tobuf(kind))
        file.seek(header.size, 1)
        file.write(after.tobuf(kind) + b"\0" * 1024)
    huge, last = tar_members(tmp_path / "x.tar")
    assert (huge.name, huge.size, last.name) == (b"huge", 9 * 2**40, b"after")
    assert last.offset == huge.offset + huge.size + 512


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (0, "is empty"),
        (100, "is not a tar file"),
        (512, r"is cut short: a.jpg needs 700 bytes more; copy the shard again"),
        (1300, r"is cut short: .*b.jpg|is cut short: the mark of a tar's end is missing"),
        (512 + 1024, "is cut short: the mark of a tar's end is missing"),
        (3 * 512 + 512 + 10, "is cut short: b.jpg needs 690 bytes more"),
    ],
)
def test_cut_short(tmp_path, kept, message):
    path = pack(tmp_path / "x.tar", [("a.jpg", b"a" * 700), ("b.jpg", b"b" * 700)])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InfoscopeError, match=rf"x\.tar ({message})"):
        list(tar_members(path))


def test_damage_is_named_with_its_place(tmp_path):
    path = pack(tmp_path / "x.tar", [("a.jpg", b"a" * 700), ("b.jpg", b"b" * 700)])
    data = bytearray(path.read_bytes())
    data[3 * 512 + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(InfoscopeError, match=r"x\.tar is damaged at byte 1536"):
        list(tar_members(path))


@pytest.mark.parametrize(("mode", "name"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_compressed_under_another_name(tmp_path, mode, name):
    with tarfile.open(tmp_path / "x.tar", mode) as tar:
        for number in range(20):
            tar.addfile(tarfile.TarInfo(f"{number:0300}"))
    with pytest.raises(InfoscopeError, match=rf"is compressed \({name}\).* unpack it to a \.tar"):
        list(tar_members(tmp_path / "x.tar"))


def test_no_tar_and_no_file(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"photograph" * 100)
    with pytest.raises(InfoscopeError, match="is not a tar file"):
        list(tar_members(tmp_path / "x.tar"))
    with pytest.raises(InfoscopeError, match=r"cannot read .*gone\.tar: No such file"):
        list(tar_members(tmp_path / "gone.tar"))


def test_sparse_files_are_refused(tmp_path):
    header = tarfile.TarInfo("holes.jpg")
    header.type = tarfile.GNUTYPE_SPARSE
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    with pytest.raises(InfoscopeError, match="sparse file"):
        list(tar_members(tmp_path / "x.tar"))


def long_header(records):
    return b"6 a=b\n" * records


def tar_with_pax(path, content):
    header = tarfile.TarInfo("pax")
    header.type, header.size = b"x", len(content)
    blocks = header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)
    file = tarfile.TarInfo("1.jpg")
    file.size = 3
    path.write_bytes(blocks + file.tobuf(tarfile.USTAR_FORMAT) + b"abc".ljust(512, b"\0") + bytes(1024))
    return path


class Counted(bytes):
    """Bytes that count what is copied out of them."""

    copied = 0

    def __getitem__(self, place):
        found = super().__getitem__(place)
        if isinstance(place, slice):
            Counted.copied += len(found)
            return Counted(found)
        return found


@pytest.mark.slow
def test_a_pax_header_is_read_in_linear_time(tmp_path):
    content = Counted(long_header(20_000) + b"8 path=\n" + b"10 path=x\n")
    Counted.copied = 0
    assert tar._records(content) == {b"path": b"x"}
    # Where each line copies the rest, it is ten thousand times the header.
    assert Counted.copied < 3 * len(content)
    path = tar_with_pax(tmp_path / "x.tar", long_header(170_000))
    assert [member.name for member in tar_members(path)] == [b"1.jpg"]


def test_a_header_larger_than_any_name_is_refused(tmp_path):
    path = tar_with_pax(tmp_path / "x.tar", long_header(180_000))
    with pytest.raises(InfoscopeError, match=r"a header of \d+ bytes is larger than any name"):
        list(tar_members(path))


@pytest.mark.parametrize(
    "content",
    [
        b"7 a=b\n",
        b"6 ab\n",
        b"x a=b\n",
        b"6 a=bb",
        b"99999999999999999999999 a=b\n",
        b"0 a=b\n",
        b"6a=b\n",
        b"-6 a=b\n",
    ],
)
def test_records_that_are_none_are_refused(tmp_path, content):
    with pytest.raises(InfoscopeError, match="is damaged"):
        list(tar_members(tar_with_pax(tmp_path / "x.tar", content)))
