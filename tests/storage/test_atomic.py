import errno

import pytest

from infoscope.errors import InfoscopeError
from infoscope.storage.atomic import atomic_write, read_json, write_json


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
