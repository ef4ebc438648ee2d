"""The directory of shards: order, resuming, and what is refused."""

import json
import os

import pytest
import torch

from infoscope.errors import InfoscopeError
from infoscope.runtime.json_values import read_json
from infoscope.runtime.token_cache import TokenCacheWriter, cache_name, find_token_cache, open_token_cache

MADE_BY = {"block": 10, "mean": (0.5, 0.25, 0.1)}
ORDER = [3, 8, 0, 5, 9, 1, 7, 2, 6, 4]
UNREADABLE = {8: "cut short", 2: "no image", 4: "no image"}


def tokens(images):
    return torch.stack([torch.full((4, 3), float(image)) for image in images]) if images else torch.empty(0, 4, 3)


def writer(path, order=ORDER, **options):
    # Two images to a shard.
    return TokenCacheWriter(path, MADE_BY, order, 4, 3, **({"shard_bytes": 96} | options))


def fill(target, stop=None):
    """Add the images one by one, as a pass with batches of one would."""
    skipped = []
    for image in ORDER[target.done : stop]:
        if image in UNREADABLE:
            skipped.append((image, UNREADABLE[image]))
        else:
            target.add([image], tokens([image]), skipped)
            skipped = []
    if stop is None:
        target.add([], tokens([]), skipped)
    return target


@pytest.fixture
def cache(tmp_path):
    return fill(writer(tmp_path / "cache")).finish({"block": 10})


def stored(cache):
    return torch.cat(list(cache))[::4, 0].tolist()


def test_tokens_come_back_in_order_each_time(cache):
    for found in (cache, open_token_cache(cache.path), find_token_cache(cache.path)):
        for _ in range(2):
            assert stored(found) == [3, 0, 5, 9, 1, 7, 6]
        assert (found.images, found.tokens, found.width) == (7, 28, 3)
    assert [shard.images for shard in cache.shards] == [[3, 0], [5, 9], [1, 7], [6]]


def test_the_manifest_says_what_made_it(cache):
    value = read_json(cache.path / "manifest.json")
    assert value["made_by"] == {"block": 10, "mean": [0.5, 0.25, 0.1]}
    assert value["hash"] == cache_name(value["made_by"])
    assert value["site"] == {"block": 10}
    assert value["shards"][1] == {"file": "tokens-000001.safetensors", "images": [5, 9]}
    assert (value["images"], value["patches"], value["width"], value["dtype"]) == (7, 4, 3, "float32")


@pytest.mark.parametrize("stop", range(1, 11))
def test_a_killed_writer_goes_on_with_the_first_missing_shard(tmp_path, cache, stop):
    path = tmp_path / "killed"
    fill(writer(path), stop)
    whole = {file: file.stat().st_mtime_ns for file in path.glob("*.safetensors")}
    half = path / ".tokens-000009.safetensors.1.tmp"
    half.write_bytes(b"half")
    os.utime(half, (0, 0))
    with pytest.raises(InfoscopeError, match="is not finished; give `infoscope train`"):
        open_token_cache(path)
    assert find_token_cache(path) is None
    second = writer(path)
    readable = [image for image in ORDER if image not in UNREADABLE][: 2 * len(whole)]
    assert [image for image in ORDER[: second.done] if image not in UNREADABLE] == readable
    finished = fill(second).finish({"block": 10})
    assert stored(finished) == stored(cache)
    assert finished.shards == cache.shards
    assert second.skipped == UNREADABLE
    assert {file: file.stat().st_mtime_ns for file in whole} == whole
    assert sorted(file.name for file in path.iterdir()) == sorted(file.name for file in cache.path.iterdir())


def test_a_deleted_shard_is_written_anew_with_those_after_it(cache):
    expected = stored(cache)
    (cache.path / "tokens-000001.safetensors").unlink()
    with pytest.raises(InfoscopeError, match=r"cannot read .*tokens-000001.safetensors: No such file .*; give"):
        open_token_cache(cache.path)
    assert find_token_cache(cache.path) is None
    again = writer(cache.path, shard_bytes=480)  # fewer, longer ones
    assert again.done == 3
    finished = fill(again).finish({"block": 10})
    assert stored(finished) == expected
    assert [shard.images for shard in open_token_cache(cache.path).shards] == [[3, 0], [5, 9, 1, 7, 6]]
    assert len(list(cache.path.glob("*.safetensors"))) == 2


def test_a_broken_shard_is_named(cache):
    file = cache.path / "tokens-000001.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    for use in (open_token_cache, find_token_cache, writer):
        with pytest.raises(InfoscopeError, match=r"tokens-000001.safetensors has \d+ bytes .*; delete it"):
            use(cache.path)


def test_shards_that_changed_places(cache):
    files = [cache.path / f"tokens-00000{i}.safetensors" for i in (0, 3)]
    first, last = (file.read_bytes() for file in files)
    files[0].write_bytes(last)
    with pytest.raises(InfoscopeError, match=r"holds tokens \[1, 4, 3\] where manifest.json says \[2, 4, 3\]"):
        open_token_cache(cache.path)
    (cache.path / "manifest.json").unlink()
    with pytest.raises(InfoscopeError, match="does not follow the shards before it"):
        writer(cache.path)
    files[1].write_bytes(first)


def test_another_order_or_another_cache_is_refused(cache):
    (cache.path / "manifest.json").unlink()
    with pytest.raises(InfoscopeError, match="does not follow the shards before it; delete"):
        writer(cache.path, order=ORDER[::-1])
    (cache.path / "plan.json").write_text("{}")
    with pytest.raises(InfoscopeError, match="holds the tokens of something else; choose another --cache"):
        writer(cache.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, 'does not say "format": "infoscope tokens"'),
        ({"format_version": 2}, "has format_version 2, this infoscope reads up to 1"),
        ({"made_by": {"block": 11}}, "is damaged; delete it"),
        ({"shards": []}, "is damaged; delete it"),
        ({"shards": [{"file": "../secret", "images": [1]}]}, "is damaged; delete it"),
        ({"shards": 3}, "is damaged; delete it"),
        ({"width": None}, "is damaged; delete it"),
    ],
)
def test_a_manifest_that_cannot_be_trusted(cache, change, message):
    value = read_json(cache.path / "manifest.json")
    (cache.path / "manifest.json").write_text(json.dumps(value | change))
    with pytest.raises(InfoscopeError, match=message):
        open_token_cache(cache.path)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InfoscopeError, match=r"cannot write .*; remove the file that is .* or choose another --cache"):
        writer(tmp_path / "file" / "cache")


def test_one_flipped_bit_of_the_tokens_is_named_when_they_are_read(cache):
    (file, *_) = sorted(cache.path.glob("tokens-*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-5] ^= 4
    file.write_bytes(content)
    with pytest.raises(InfoscopeError, match="is damaged, for its tokens do not match their checksum"):
        list(open_token_cache(cache.path))
    (cache.path / "manifest.json").unlink()
    with pytest.raises(InfoscopeError, match="is damaged, for its tokens do not match their checksum"):
        writer(cache.path)


def test_a_manifest_with_another_digit_is_named(cache):
    file = cache.path / "manifest.json"
    value = read_json(file)
    value["site"]["block"] = 3
    file.write_text(json.dumps(value))
    with pytest.raises(InfoscopeError, match="does not match its own checksum"):
        open_token_cache(cache.path)
