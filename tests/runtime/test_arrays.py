import numpy as np
import pytest

from infoscope.runtime.arrays import read_array


def write(file, header, content=bytes(48), version=b"\x01\x00"):
    text = header.encode().ljust(117) + b"\n"
    file.write_bytes(b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + content)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "|b1", "<i8", "<U3"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_what_numpy_writes_is_read(tmp_path, dtype, shape):
    array = np.ones(shape).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    found = read_array(tmp_path / "a.npy")
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-4, -3)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (4, 3)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4, 3)}",
        "{'descr': '<f4', 'fortran_order': 3, 'shape': (4, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807)}",
        "{'descr': 'no type', 'fortran_order': False, 'shape': (4, 3)}",
        "{'descr': '<f4'",
        "((((",
        "[" * 110,
        "\0",
    ],
)
def test_a_header_that_says_something_else_is_one_line(tmp_path, header):
    write(tmp_path / "a.npy", header)
    with pytest.raises(ValueError, match=r"^.+$") as raised:
        read_array(tmp_path / "a.npy")
    assert "\n" not in str(raised.value).strip()


def test_a_file_that_is_none_is_one_line(tmp_path):
    for content in (b"", b"\x93NUMPY", b"PK\x03\x04", b"\x80\x04N."):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"^.+$"):
            read_array(tmp_path / "a.npy")
    with pytest.raises(OSError, match="gone"):
        read_array(tmp_path / "gone.npy")
