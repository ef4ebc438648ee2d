"""One shard: what safetensors reads of it, and every way a file can be none."""

import errno
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from infoscope.errors import InfoscopeError
from infoscope.runtime.token_shards import read_header, read_tokens, write_shard

TOKENS = np.random.default_rng(0).standard_normal((5, 4, 3), dtype=np.float32)


@pytest.fixture
def shard(tmp_path):
    write_shard(tmp_path / "tokens-000000.safetensors", [TOKENS[:2], TOKENS[2:]], {"images": "[4, 0, 1, 3, 2]"})
    return tmp_path / "tokens-000000.safetensors"


def header(value, payload=b""):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(text).to_bytes(8, "little") + text + payload


def described(**changed):
    return {"tokens": {"dtype": "F32", "shape": [5, 4, 3], "data_offsets": [0, 240], **changed}}


def test_the_safetensors_library_reads_it(shard):
    assert list(load_file(shard)) == ["tokens"]
    assert np.array_equal(load_file(shard)["tokens"], TOKENS)
    with safe_open(shard, "numpy") as opened:
        assert opened.metadata() == {"images": "[4, 0, 1, 3, 2]"}


def test_what_the_safetensors_library_writes_is_read(tmp_path):
    save_file({"tokens": torch.from_numpy(TOKENS)}, tmp_path / "other.safetensors")
    found = read_header(tmp_path / "other.safetensors")
    assert (found.shape, found.metadata) == ((5, 4, 3), {})
    assert np.array_equal(
        np.concatenate(list(read_tokens(tmp_path / "other.safetensors", found))), TOKENS.reshape(20, 3)
    )


@pytest.mark.parametrize("chunk_bytes", [1, 12, 13, 100, 239, 240, 10**6])
def test_chunks_are_bounded_and_lose_nothing(shard, chunk_bytes):
    chunks = list(read_tokens(shard, read_header(shard), chunk_bytes))
    assert np.array_equal(np.concatenate(chunks), TOKENS.reshape(20, 3))
    assert max(chunk.nbytes for chunk in chunks) <= max(chunk_bytes, 12)
    assert not any(np.shares_memory(a, b) for a, b in pairwise(chunks))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is cut short or no safetensors file"),
        (b"\x10\0\0", "is cut short or no safetensors file"),
        (b"\xff" * 100, "is cut short or no safetensors file"),
        (b"\0" * 100, "is cut short or no safetensors file"),
        (header(b"not json"), "its header is not JSON"),
        (header(b"\xff\xfe{}"), "its header is not JSON"),
        (header(b"[" * 100_000), "its header is not JSON"),
        (header([]), "does not hold one float32 tensor tokens"),
        (header({}), "does not hold one float32 tensor tokens"),
        (header({"weights": described()["tokens"]}, bytes(240)), "does not hold one float32 tensor tokens"),
        (header(described() | {"more": {}}, bytes(240)), "does not hold one float32 tensor tokens"),
        (header(described(dtype="F16"), bytes(240)), "does not hold one float32 tensor tokens"),
        (header(described(shape=[20, 3]), bytes(240)), "does not hold one float32 tensor tokens"),
        (header(described(shape=[5, 4, -3]), bytes(240)), "does not hold one float32 tensor tokens"),
        (header(described(shape=[5, 4, True]), bytes(240)), "does not hold one float32 tensor tokens"),
        (header(described(data_offsets=[4, 244]), bytes(244)), "does not hold one float32 tensor tokens"),
        (header(described() | {"__metadata__": 3}, bytes(240)), "does not hold one float32 tensor tokens"),
        (header(described(), bytes(239)), "bytes where its header describes"),
        (header(described(), bytes(241)), "bytes where its header describes"),
    ],
)
def test_what_is_no_shard_is_named_in_one_line(tmp_path, content, message):
    file = tmp_path / "tokens-000000.safetensors"
    file.write_bytes(content)
    with pytest.raises(InfoscopeError, match=message) as raised:
        read_header(file)
    assert str(raised.value).startswith(f"{file} ")
    assert "; delete it, and give" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_shard_that_shrinks_under_the_reader(shard):
    found = read_header(shard)
    content = shard.read_bytes()
    shard.write_bytes(content[:-20])
    with pytest.raises(InfoscopeError, match="has become shorter"):
        list(read_tokens(shard, found, chunk_bytes=60))


def test_a_missing_shard(tmp_path):
    with pytest.raises(InfoscopeError, match=r"cannot read .*gone: No such file"):
        read_header(tmp_path / "gone")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self, *arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InfoscopeError, match="No space left on device; free the space or choose another --cache"):
        write_shard(tmp_path / "shard", [TOKENS])
    assert list(tmp_path.iterdir()) == []
