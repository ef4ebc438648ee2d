import errno
import os

import pytest

from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import atomic_write
from infoscope.runtime.json_values import read_json, write_json


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "table"
    target.write_text("old")

    def fail():
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_line(tmp_path):
    def fill():
        with atomic_write(tmp_path / "table") as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InfoscopeError, match=r"cannot write .*table: No space left on device"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(InfoscopeError, match="cannot write"):
        write_json(tmp_path / "run" / "value.json", 1)


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "value.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_damaged_json_is_one_line(tmp_path):
    (tmp_path / "value.json").write_text('{"a": 1')
    with pytest.raises(InfoscopeError, match=r"value\.json is not JSON"):
        read_json(tmp_path / "value.json")
    with pytest.raises(InfoscopeError, match="cannot read"):
        read_json(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free the space"),
        (errno.EDQUOT, "free the space"),
        (errno.EACCES, "set its permissions"),
        (errno.EROFS, "mount the disk so that it can be written to"),
        (errno.ENAMETOOLONG, "shorten the name"),
        (errno.EFBIG, "raise the limit on the size of a file"),
        (errno.EIO, "check the disk"),
    ],
)
def test_the_advice_is_one_that_helps(tmp_path, number, advice):
    # As the system says it, and as libraries in Rust hand it on.
    for error in (OSError(number, os.strerror(number)), OSError(errno.EIO, f"I/O error: (os error {number})")):

        def fail(error=error):
            with atomic_write(tmp_path / "table"):
                raise error

        with pytest.raises(InfoscopeError, match=f"; {advice} or choose another --out$"):
            fail()


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(InfoscopeError, match="File name too long; shorten the name or choose another --out"):
        write_json(tmp_path / ("n" * 300), 1)
