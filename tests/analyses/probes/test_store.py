"""Features on disk."""

import json
import resource
import subprocess
import sys

import numpy as np
import pytest

from infoscope.analyses.probes.store import FeatureStore, StoredArray
from infoscope.errors import InfoscopeError

ARRAYS = {"vectors": StoredArray((3,), "float32"), "patches": StoredArray((2, 3), "float16")}


def entries(*numbers):
    values = np.array(numbers, np.float32)
    return {
        "vectors": np.tile(values[:, None], (1, 3)),
        "patches": np.tile(values[:, None, None], (1, 2, 3)),
    }


def test_entries_are_where_their_images_are(tmp_path):
    store = FeatureStore(tmp_path / "a", 5, ARRAYS)
    store.write(1, entries(7, 2))
    store.write(0, entries(1))
    store.finished(4, {2: "is cut short"})
    again = FeatureStore(tmp_path / "a", 5, ARRAYS)
    assert (again.done, again.skipped, again.rows.tolist()) == (4, {2: "is cut short"}, [0, 1, 3])
    # What other programs read.
    assert np.load(tmp_path / "a" / "vectors.npy")[:, 0].tolist() == [1, 7, 2, 0, 0]
    patches = again.read("patches")
    assert (patches.dtype, patches.shape) == (np.float16, (3, 2, 3))
    assert patches[2].tolist() == [[2, 2, 2]] * 2
    assert again.bytes == 5 * (12 + 12)


def test_features_of_something_else_are_refused(tmp_path):
    FeatureStore(tmp_path / "a", 5, ARRAYS)
    for count, arrays in ((6, ARRAYS), (5, {"vectors": ARRAYS["vectors"]})):
        with pytest.raises(InfoscopeError, match="features of something else"):
            FeatureStore(tmp_path / "a", count, arrays)


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "NaN or infinity"), (1e6, "--feature-type float32")])
def test_what_a_file_cannot_hold_is_refused(tmp_path, value, message):
    store = FeatureStore(tmp_path / "a", 5, ARRAYS)
    with pytest.raises(InfoscopeError, match=message):
        store.write(0, entries(value))


def test_removed_features_are_gone(tmp_path):
    store = FeatureStore(tmp_path / "a", 5, ARRAYS)
    store.remove()
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_a_disk_that_is_too_small_is_an_error_at_once(tmp_path):
    code = f"""
import resource
from pathlib import Path
from infoscope.errors import InfoscopeError
from infoscope.analyses.probes.store import FeatureStore, StoredArray
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    FeatureStore(Path({json.dumps(str(tmp_path / "a"))}), 10_000, {{"vectors": StoredArray((3,), "float32")}})
except InfoscopeError as error:
    print(error)
"""
    # Without bytecode, which Python would leave cut off at the limit.
    found = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True)
    assert "cannot write" in found.stdout
    assert "raise the limit on the size of a file" in found.stdout
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (4, 3)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4, 3)}",
        "{'descr': '<f4', 'fortran_order': 3, 'shape': (4, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807)}",
        "{'descr': '<f4'",
        "((((",
        "\0",
    ],
)
def test_a_header_that_is_not_the_stores_is_one_line(tmp_path, header):
    store = FeatureStore(tmp_path / "a", 4, {"vectors": StoredArray((3,), "float32")})
    store.write(0, {"vectors": np.ones((4, 3), np.float32)})
    store.finished(4)
    file = tmp_path / "a" / "vectors.npy"
    text = header.encode().ljust(117) + b"\n"
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(48))
    with pytest.raises(InfoscopeError, match=r"vectors\.npy.*; delete .* and run the same command again") as raised:
        store.read("vectors")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        {"done": "x"},
        {"done": 5},
        {"done": None},
        {"skipped": 3},
        {"skipped": [[0]]},
        {"skipped": [["x", "no"]]},
        {"skipped": [[9, "no"]]},
        {"arrays": []},
    ],
)
def test_progress_of_other_types_is_one_line(tmp_path, change):
    arrays = {"vectors": StoredArray((3,), "float32")}
    FeatureStore(tmp_path / "a", 4, arrays)
    progress = tmp_path / "a" / "progress.json"
    value = json.loads(progress.read_text())
    del value["checksum"]
    progress.write_text(json.dumps(value | change))
    with pytest.raises(InfoscopeError, match=r"progress\.json is damaged .*; delete .* and run the same command again"):
        FeatureStore(tmp_path / "a", 4, arrays)
    progress.write_text(json.dumps(value | {"done": 3, "checksum": "0"}))
    with pytest.raises(InfoscopeError, match="does not match its own checksum"):
        FeatureStore(tmp_path / "a", 4, arrays)
