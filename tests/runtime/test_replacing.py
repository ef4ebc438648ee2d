"""Files that are replaced together: all of the old ones or all of the new, wherever it stops."""

import os

import pytest

from infoscope.errors import InfoscopeError
from infoscope.runtime.replacing import WAITING, finish_replacing, replacing

NAMES = ("a", "b", "inside/c", "record")


def written(folder, text):
    (folder / "inside").mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / name).write_text(text)


def replace_all(folder):
    with replacing(folder, "record") as waiting:
        written(waiting, "new")


def texts(folder):
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("at", range(5))
def test_stopped_while_files_are_moved(tmp_path, monkeypatch, at):
    """The process ends before the move of number ``at``, or not at all."""
    written(tmp_path, "old")
    (tmp_path / "other").write_text("as it was")
    moved, real = [], os.replace

    def replace(source, target):
        if len(moved) == at:
            raise SystemExit
        moved.append(source)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    try:
        replace_all(tmp_path)
    except SystemExit:
        assert at < 4
    monkeypatch.undo()
    finish_replacing(tmp_path, "record")
    assert texts(tmp_path) == dict.fromkeys(NAMES, "new") | {"other": "as it was"}
    assert not (tmp_path / WAITING).exists()


@pytest.mark.parametrize("count", range(4))
def test_stopped_while_files_are_written(tmp_path, count):
    written(tmp_path, "old")

    def stop():
        with replacing(tmp_path, "record") as waiting:
            (waiting / "inside").mkdir()
            for name in NAMES[:count]:
                (waiting / name).write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    finish_replacing(tmp_path, "record")
    assert texts(tmp_path) == dict.fromkeys(NAMES, "old")
    assert not (tmp_path / WAITING).exists()


def test_what_a_killed_process_left_is_thrown_away(tmp_path):
    written(tmp_path, "old")
    (tmp_path / WAITING).mkdir()
    (tmp_path / WAITING / "c").write_text("half")
    replace_all(tmp_path)
    assert texts(tmp_path) == dict.fromkeys(NAMES, "new")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / WAITING).write_text("a file")
    with pytest.raises(InfoscopeError, match=WAITING):
        replace_all(tmp_path)
