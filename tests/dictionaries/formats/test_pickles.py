import collections
import io
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from infoscope.dictionaries.formats.pickles import Inert, load_torch, plain, state_dict_of
from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def read(path):
    with path.open("rb") as file:
        return load_torch(file, path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("how", ["os.system", "eval", "exec", "nested"])
def test_a_hostile_pickle_runs_nothing(tmp_path, zipped, how):
    mark = tmp_path / "executed"
    call = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    hostile = {
        "os.system": Hostile(os.system, f"touch {mark}"),
        "eval": Hostile(eval, call),
        "exec": Hostile(exec, call),
        "nested": Hostile(getattr, Hostile(__import__, "os"), "system"),
    }[how]
    path = tmp_path / "sae.pt"
    torch.save({"state_dict": {"W_enc": torch.ones(2, 3)}, "cfg": hostile}, path, _use_new_zipfile_serialization=zipped)
    held = read(path)
    assert isinstance(held["cfg"], Inert)
    assert torch.equal(held["state_dict"]["W_enc"], torch.ones(2, 3))
    with pytest.raises(InfoscopeError):
        load_sae(path)
    assert not mark.exists()
    if how != "nested":  # the test is worth something: it does run where nothing is restricted
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_torch_s_own_unpickling_of_bytes_is_not_reached(tmp_path):
    mark = tmp_path / "executed"
    inner = io.BytesIO()
    torch.save(Hostile(os.system, f"touch {mark}"), inner)
    path = tmp_path / "sae.pt"
    torch.save({"x": Hostile(torch.storage._load_from_bytes, inner.getvalue())}, path)
    assert isinstance(read(path)["x"], Inert)
    assert not mark.exists()


def test_objects_of_packages_that_are_not_there_are_data(tmp_path, foreign):
    config = foreign("Config", k=32, dtype=torch.float32, device=torch.device("cpu"), path=Path("a/b"))
    config.inner = foreign("Inner", layers=(1, 2), table={"a": {3}})
    foreign.save({"cfg": config, "parameter": torch.nn.Parameter(torch.ones(2))}, tmp_path / "sae.pt")
    held = read(tmp_path / "sae.pt")
    assert held["cfg"].kind == "foreign_project.Config"
    assert plain(held)["cfg"] == {
        "k": 32,
        "dtype": "torch.float32",
        "device": "cpu",
        "path": ["a", "b"],
        "inner": {"layers": [1, 2], "table": {"a": [3]}},
    }
    assert torch.equal(plain(held)["parameter"], torch.ones(2))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickled_module_has_the_state_dict_of_the_real_one(tmp_path, protocol):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    torch.save(module, tmp_path / "module.pt", pickle_protocol=protocol)
    tensors = state_dict_of(read(tmp_path / "module.pt"))
    assert tensors.keys() == module.state_dict().keys()
    assert all(torch.equal(tensors[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.bool])
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_come_back_whole(tmp_path, dtype, zipped):
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    torch.save({"x": tensor, "view": tensor.T[1:]}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    held = read(tmp_path / "x.pt")
    assert torch.equal(held["x"], tensor)
    assert torch.equal(held["view"], tensor.T[1:])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_a_file_cut_short(tmp_path, zipped, share):
    path = tmp_path / "sae.pt"
    torch.save({"W_enc": torch.randn(40, 40)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InfoscopeError, match=r"sae\.pt is (cut short or )?not a torch file") as error:
        load_sae(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"PK\x03\x04nothing", b"\x80\x02nonsense", b"version https://git-lfs", b"\x80\x04."])
def test_a_file_of_something_else(tmp_path, data):
    (tmp_path / "sae.pt").write_bytes(data)
    with pytest.raises(InfoscopeError, match=r"sae\.pt is (cut short or )?not a torch file") as error:
        load_sae(tmp_path / "sae.pt")
    assert "\n" not in str(error.value)


def test_compiled_code_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "sae.pt", "w") as archive:
        archive.writestr("sae/data.pkl", pickle.dumps({}))
        archive.writestr("sae/constants.pkl", pickle.dumps(()))
    with pytest.raises(InfoscopeError, match="TorchScript"):
        load_sae(tmp_path / "sae.pt")


def test_data_that_contains_itself(tmp_path):
    content = {}
    content["self"] = content
    torch.save(content, tmp_path / "sae.pt")
    with pytest.raises(InfoscopeError, match="contains itself"):
        load_sae(tmp_path / "sae.pt")


def written(folder, program, storages=(), compress=zipfile.ZIP_STORED):
    """A torch file whose pickle is assembled by hand."""
    path = folder / "sae.pt"
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("sae/data.pkl", program)
        archive.writestr("sae/byteorder", "little")
        for key, data in dict(storages).items():
            archive.writestr(f"sae/data/{key}", data)
    return path


def word(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def name(module, called):
    return f"c{module}\n{called}\n".encode()


def storage(kind="FloatStorage", key="0", count=4):
    """The persistent id of a storage."""
    numbers = b"\x8a\x08" + struct.pack("<q", count)
    return b"(" + word("storage") + name("torch", kind) + word(key) + word("cpu") + numbers + b"tQ"


def tensor(size, stride, offset=0, **about):
    """A call of what makes a tensor."""
    shape = b"(" + b"".join(map(number, size)) + b"t(" + b"".join(map(number, stride)) + b"t"
    ordered = name("collections", "OrderedDict") + b")R"
    inside = b"(" + storage(**about) + number(offset) + shape + b"\x89" + ordered + b"t"
    return name("torch._utils", "_rebuild_tensor_v2") + inside + b"R"


DATA = {"0": struct.pack("<4f", 1, 2, 3, 4)}
KNOWN = [
    ("torch", "float32"), ("torch", "FloatStorage"), ("torch", "Size"), ("torch", "device"),
    ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"), ("collections", "OrderedDict"),
    ("torch.storage", "UntypedStorage"), ("_codecs", "encode"), ("copyreg", "_reconstructor"), ("builtins", "set"),
]  # fmt: skip


def test_a_tensor_assembled_by_hand(tmp_path):
    """What the programs below are made of does work."""
    path = written(tmp_path, b"\x80\x02}" + word("x") + tensor((2, 2), (2, 1)) + b"s.", DATA)
    assert read(path)["x"].tolist() == [[1, 2], [3, 4]]


def attributes(one):
    held = dict(vars(one)) if hasattr(one, "__dict__") else {}
    return held | {key: getattr(one, key, None) for key in ("__defaults__", "__kwdefaults__", "__code__")}


@pytest.mark.parametrize(("module", "called"), KNOWN)
@pytest.mark.parametrize(
    "step",
    [
        b"}" + word("poisoned") + number(1) + b"sb",  # BUILD with a dictionary: its attributes
        b"N}" + word("__defaults__") + b")s\x86b",  # BUILD with slots: setattr
        word("poisoned") + number(1) + b"s",  # SETITEM
        b"(" + word("poisoned") + number(1) + b"u",  # SETITEMS
        number(1) + b"a",  # APPEND
        b"(" + number(1) + b"e",  # APPENDS
        b"(" + number(1) + b"\x90",  # ADDITEMS
    ],
    ids=["build", "build slots", "setitem", "setitems", "append", "appends", "additems"],
)
def test_nothing_of_the_process_is_altered(tmp_path, module, called, step):
    __import__(module)
    one = getattr(sys.modules[module], called)
    before = attributes(one)
    path = written(tmp_path, b"\x80\x04" + name(module, called) + step + b".")
    with pytest.raises(InfoscopeError, match="which is not made in it") as error:
        read(path)
    assert "\n" not in str(error.value)
    assert attributes(one) == before


@pytest.mark.parametrize(
    "made", [tensor((2,), (1,)), storage(), name("torch", "float32"), b")", b"K\x01", word("text"), b"\x89"]
)
@pytest.mark.parametrize("step", [b"}b", b"(K\x01K\x02u", b"(K\x01e"])
def test_nothing_made_but_containers_is_altered(tmp_path, made, step):
    with pytest.raises(InfoscopeError, match="which is not made in it"):
        read(written(tmp_path, b"\x80\x02" + made + step + b".", DATA))


@pytest.mark.parametrize(
    "function",
    [name("torch", "float32"), name("torch", "FloatStorage"), b"K\x01", tensor((2,), (1,)), b"}", word("text")],
)
@pytest.mark.parametrize("call", [b")R", b")\x81", b"K\x01R"])
def test_only_what_is_known_to_be_safe_is_called(tmp_path, function, call):
    with pytest.raises(InfoscopeError, match="a call"):
        read(written(tmp_path, b"\x80\x02" + function + call + b".", DATA))


def test_names_of_the_process_are_not_reached(tmp_path):
    collections.known = 1
    try:
        held = read(written(tmp_path, b"\x80\x02" + name("collections", "known") + b"."))
        assert held.kind == "collections.known"
        with pytest.raises(InfoscopeError, match="extension 1 of another process"):
            read(written(tmp_path, b"\x80\x02\x82\x01."))
    finally:
        del collections.known


@pytest.mark.parametrize(
    ("size", "stride", "message"),
    [
        ((30_000, 30_000), (0, 0), "repeats the same numbers"),
        ((4, 1000), (1, 0), "repeats the same numbers"),
        ((3, 2), (1, 1), "repeats the same numbers"),
        ((2, 3), (3, 1), "reaches beyond its storage of 4 numbers"),
        ((2,), (2_000_000_000,), "reaches beyond its storage"),
        ((5,), (1,), "reaches beyond its storage"),
        ((-1,), (1,), "without a storage, a shape or a stride"),
        ((2,), (-1,), "without a storage, a shape or a stride"),
        ((2, 2), (1,), "without a storage, a shape or a stride"),
        ((0, 2_000_000_000), (1, 1), "without numbers"),
    ],
)
def test_tensors_that_are_more_than_their_storage(tmp_path, size, stride, message):
    with pytest.raises(InfoscopeError, match=message):
        read(written(tmp_path, b"\x80\x02" + tensor(size, stride) + b".", DATA))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("trick", [lambda x: x.expand(50, 4), lambda x: x.unfold(0, 3, 1)])
def test_stride_tricks_as_torch_saves_them(tmp_path, zipped, trick):
    torch.save({"x": trick(torch.ones(4))}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InfoscopeError, match="repeats the same numbers"):
        read(tmp_path / "x.pt")


@pytest.mark.parametrize(("count", "held"), [(10**12, DATA), (5, DATA), (3, DATA), (-4, DATA), (4, {})])
def test_storages_that_are_not_what_they_say(tmp_path, count, held):
    with pytest.raises(InfoscopeError, match="storage"):
        read(written(tmp_path, b"\x80\x02" + tensor((2,), (1,), count=count) + b".", held))


@pytest.mark.parametrize("count", [4, 10**12])
def test_an_old_file_that_announces_storages_it_lacks(tmp_path, count):
    magic = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    persistent = storage(count=count)[:-2] + b"NtQ"
    body = b"\x80\x02" + tensor((2,), (1,)).replace(storage(), persistent) + b"."
    for tail in (pickle.dumps([], 2), pickle.dumps(["0"], 2), pickle.dumps("0", 2)):
        (tmp_path / "sae.pt").write_bytes(b"".join(magic) + body + tail)
        with pytest.raises(InfoscopeError, match=r"sae\.pt is cut short or not a torch file"):
            read(tmp_path / "sae.pt")


def test_members_are_not_compressed(tmp_path):
    path = written(tmp_path, b"\x80\x02}.", {"0": bytes(50_000_000)}, compress=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    began = time.perf_counter()
    with pytest.raises(InfoscopeError, match="is compressed, which torch never does"):
        read(path)
    assert time.perf_counter() - began < 0.5


def test_members_that_lie_over_each_other(tmp_path):
    path = written(tmp_path, b"\x80\x02}.", {str(i): bytes(40 + i) for i in range(3)})
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    struct.pack_into("<II", data, place + 20, 10_000, 10_000)
    path.write_bytes(data)
    with pytest.raises(InfoscopeError, match="larger than the file"):
        read(path)


@pytest.mark.parametrize("read_by", ["tensor", "nothing"])
def test_a_flipped_bit_is_noticed(tmp_path, read_by):
    path = tmp_path / "sae.pt"
    torch.save({"W_enc": torch.arange(1000.0)}, path)
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack("<3f", 500, 501, 502)) if read_by == "tensor" else data.index(b"little")
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(InfoscopeError, match=r"Bad CRC-32|little-endian"):
        read(path)


def test_every_flipped_bit_is_noticed_or_changes_nothing(tmp_path):
    path = tmp_path / "sae.pt"
    whole = torch.arange(64.0)
    torch.save({"x": whole}, path)
    data = path.read_bytes()
    for place in range(0, len(data), 3):
        broken = bytearray(data)
        broken[place] ^= 1 << (place % 8)
        try:
            held = load_torch(io.BytesIO(broken), path)
        except InfoscopeError:
            continue
        assert torch.equal(held["x"], whole)


def lists_of_lists(depth=40):
    """Ten references to a list of ten references, and so on: a few bytes, and no end when written out."""
    program = b"\x80\x02]q\x00"
    for level in range(depth):
        program += b"](" + b"".join(b"h" + bytes([level]) for _ in range(10)) + b"eq" + bytes([level + 1])
    return program + b"}" + word("cfg") + b"h" + bytes([depth]) + b"s."


def tuples_as_key(depth=60):
    """A key that takes two to the sixtieth steps to hash."""
    return b"\x80\x02)" + b"2\x86" * depth + b"q\x00}h\x00K\x01s."


BOMBS = {
    "shared lists": lambda folder: written(folder, lists_of_lists()),
    "a key": lambda folder: written(folder, tuples_as_key()),
    "a set": lambda folder: written(folder, b"\x80\x04)" + b"2\x86" * 60 + b"q\x00\x8f(h\x00\x90."),
    "a frozen set": lambda folder: written(folder, b"\x80\x04)" + b"2\x86" * 60 + b"q\x00(h\x00\x91."),
    "a byte array": lambda folder: written(folder, b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."),
    "bytes": lambda folder: written(folder, b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"."),
    "a frame": lambda folder: written(folder, b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"."),
    "a memo": lambda folder: written(folder, b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b"."),
    "many lists": lambda folder: written(folder, b"\x80\x02(" + b"]" * 20_000_000 + b"l."),
    "a digit": lambda folder: written(folder, b"\x80\x02I" + b"9" * 1_000_000 + b"\n."),
    "a storage": lambda folder: written(folder, b"\x80\x02" + tensor((2,), (1,), count=2**40) + b"."),
    "strides": lambda folder: written(folder, b"\x80\x02" + tensor((100_000, 100_000), (0, 0)) + b".", DATA),
    "a module": lambda folder: written(folder, modules()),
}


def modules(depth=60):
    """Modules that hold a module twice, and so on."""
    program = b"\x80\x02" + name("nobody", "Module") + b")\x81q\x00"
    for level in range(depth):
        inside = b"}(" + b"".join(word(side) + b"h" + bytes([level]) for side in "ab") + b"u"
        state = b"}(" + word("_parameters") + b"}" + word("_modules") + inside + b"u"
        program += name("nobody", "Module") + b")\x81" + state + b"bq" + bytes([level + 1])
    return program + b"."


LOAD = """
import resource, sys, torch
from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 600 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for path in sys.argv[1:]:
    try:
        load_sae(path)
    except InfoscopeError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_bombs_are_refused_in_little_memory_and_time(tmp_path):
    """All of them in 600 MiB and a minute, each by a line of its own."""
    paths = []
    for bomb, write in BOMBS.items():
        folder = tmp_path / bomb
        folder.mkdir()
        paths.append(write(folder))
    done = subprocess.run([sys.executable, "-c", LOAD, *paths], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths)
    for path, line in zip(paths, lines, strict=True):
        assert str(path) in line


def test_short_memory_is_called_that(tmp_path, monkeypatch):
    torch.save({"W_enc": torch.ones(2, 3)}, tmp_path / "sae.pt")

    def short(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "empty", short)
    with pytest.raises(InfoscopeError, match=r"there is not enough memory to read .*sae\.pt; close other programs"):
        load_sae(tmp_path)


def test_a_compiled_module(tmp_path):
    """What compiling wraps around a module is seen through."""
    inner = torch.nn.Linear(3, 4)
    outer = torch.nn.Module()
    outer._modules["_orig_mod"] = inner
    torch.save(outer, tmp_path / "module.pt")
    with pytest.raises(InfoscopeError, match="is of no known format: it holds bias, weight"):
        load_sae(tmp_path / "module.pt")
