import numpy as np
import pytest

from infoscope.errors import InfoscopeError
from infoscope.runtime.partials import Partials, shards


@pytest.mark.parametrize(("count", "size"), [(0, 4), (1, 4), (4, 4), (5, 4), (17, 1)])
def test_shards_cover_every_item_once(count, size):
    cut = shards(count, size)
    assert [item for shard in cut for item in shard] == list(range(count))
    assert all(0 < len(shard) <= size for shard in cut)


def test_a_finished_shard_is_read_not_computed(tmp_path):
    partials = Partials(tmp_path)
    arrays = {"a": np.arange(3), "text": np.array(["ä", "longer"])}
    partials.get_or_compute("one", lambda: arrays)
    again = partials.get_or_compute("one", lambda: pytest.fail("computed twice"))
    assert np.array_equal(again["a"], arrays["a"])
    assert again["text"].tolist() == ["ä", "longer"]
    partials.clear()
    assert "one" not in partials


def test_a_shard_that_fails_leaves_nothing(tmp_path):
    partials = Partials(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        partials.get_or_compute("one", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_kept_without_a_directory():
    partials = Partials(None)
    calls = []
    for _ in range(2):
        partials.get_or_compute("one", lambda: calls.append(1) or {})
    assert len(calls) == 2
    assert "one" not in partials
    partials.clear()


def test_a_damaged_shard_is_named(tmp_path):
    (tmp_path / "one.npz").write_bytes(b"PK broken")
    with pytest.raises(InfoscopeError, match=r"one\.npz .*delete it"):
        Partials(tmp_path).get_or_compute("one", dict)


def test_one_flipped_bit_of_a_kept_shard_is_named(tmp_path):
    arrays = {"score": np.linspace(0, 1, 300), "reason": np.array(["cut short"])}
    partials, random = Partials(tmp_path), np.random.default_rng(0)
    partials.put("shard", arrays)
    file = tmp_path / "shard.npz"
    content = file.read_bytes()
    for _ in range(200):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= 1 << int(random.integers(8))
        file.write_bytes(damaged)
        try:
            found = partials.read("shard")
        except InfoscopeError:
            continue
        assert all(np.array_equal(found.get(name), value) for name, value in arrays.items())
