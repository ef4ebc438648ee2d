import numpy as np
import pytest

from infoscope.errors import InfoscopeError
from infoscope.runtime.partials import ArraysHere, StoredArrays

ARRAYS = {
    "image": np.arange(1000),
    "value": np.linspace(0, 1, 7, dtype=np.float32),
    "none": np.zeros(0, np.uint16),
    "reason": np.array(["short", "ein längerer"]),
    "a" * 300: np.arange(3, dtype=np.uint8),
}


@pytest.fixture
def file(tmp_path):
    np.savez(tmp_path / "part.npz", **ARRAYS)
    return tmp_path / "part.npz"


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(("first", "stop"), [(0, None), (0, 0), (1, 2), (2, 10_000), (5, 3), (5000, None)])
def test_a_stretch_is_the_arrays_own(file, name, first, stop):
    found = StoredArrays(file).rows(name, first, stop)
    assert found.dtype == ARRAYS[name].dtype
    assert np.array_equal(found, ARRAYS[name][first:stop])
    assert np.array_equal(found, ArraysHere(ARRAYS).rows(name, first, stop))


@pytest.mark.parametrize("keep", [0, 100, -200])
def test_a_file_cut_short_is_named(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InfoscopeError, match=r"cannot read .*part\.npz .*delete it and run the same command again"):
        StoredArrays(file).rows("image")


def test_a_file_that_becomes_shorter_is_named(file):
    part = StoredArrays(file)
    part.rows("image")
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(InfoscopeError, match="has become shorter"):
        part.rows("image")


def test_a_file_that_goes_away_is_named(file):
    part = StoredArrays(file)
    part.rows("image")
    file.unlink()
    with pytest.raises(InfoscopeError, match=r"cannot read .*part\.npz"):
        part.rows("image")


def test_one_flipped_bit_is_named_wherever_it_is(file):
    random, content = np.random.default_rng(0), file.read_bytes()
    for _ in range(200):
        place = int(random.integers(len(content)))
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        file.write_bytes(damaged)
        try:
            found = {name: StoredArrays(file).rows(name) for name in ARRAYS}
        except InfoscopeError:
            continue
        # Some bits of a zip file say nothing of what is in it, such as a date.
        assert all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS), place
