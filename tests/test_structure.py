"""The counts of `benchmarks/structure.py`, on a small tree whose counts are known."""

import importlib.util
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FILES = {
    "__init__.py": '''
        """A package."""

        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            from tiny.b import twice
    ''',
    "a.py": '''
        """A module
        of two functions."""

        from tiny import (
            b,
            c as other,
        )


        def entry(number):
            """Return what `b` makes of it."""
            # Why it is added to itself first.
            found = [b.twice(each) for each in (number, number)]
            other.in_a_thread(lambda: b.twice(0))
            return found  # noqa: RET504


        TEXT = """no docstring

        but a value"""
    ''',
    "b.py": """
        from .inner import c


        def twice(number):  # for no reason
            return c.nothing(2 * number)
    """,
    "c.py": """
        import threading


        def in_a_thread(call):
            thread = threading.Thread(target=alone, args=(call,))
            thread.start()
            thread.join()


        def alone(call):
            call()
    """,
    "inner/__init__.py": "",
    "inner/c.py": """
        import tiny.c


        class Number:
            value = 1


        def nothing(number):
            return number
    """,
}


@pytest.fixture(scope="module")
def structure():
    spec = importlib.util.spec_from_file_location("structure", ROOT / "benchmarks" / "structure.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def package(structure, tmp_path, monkeypatch):
    root = tmp_path / "src" / "tiny"
    (root / "inner").mkdir(parents=True)
    for name, text in FILES.items():
        lines = [line.removeprefix("        ") for line in text.splitlines()[1:]]
        (root / name).write_text("\n".join(lines).rstrip(" "))
    monkeypatch.syspath_prepend(tmp_path / "src")
    yield structure.find_package(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "tiny"]:
        del sys.modules[name]


def test_files_lines_imports_and_names_are_counted(structure, package):
    counts = structure.count(package)
    lengths = [len((package / name).read_text().splitlines()) for name in FILES]
    assert counts.files == 6
    assert counts.lines == sum(lengths) == 6 + 20 + 5 + 11 + 0 + 9
    assert counts.median_lines == 7.5
    assert counts.long_modules == 0
    assert counts.code_lines == 3 + (4 + 4 + 3) + 3 + 7 + 0 + 5
    # Four lines of brackets in a, one line in b, c and inner.c, and two in the package itself.
    assert counts.import_lines == 4 + 1 + 1 + 1 + 2
    assert counts.import_share == counts.import_lines / counts.lines
    # What a comment shares a line with counts once, and what is meant for a linter not at all.
    assert counts.comment_share == 2 / (counts.code_lines + 1)
    # a imports b and c; b imports inner.c; inner.c imports c, which has two importers then.
    assert counts.one_importer == 2
    assert counts.shared_names == 1


@pytest.mark.no_cover  # both would follow the calls of one thread
def test_what_a_call_passes_is_counted(structure, package):
    a = importlib.import_module("tiny.a")
    passed = structure.pass_through(lambda: a.entry(1), package)
    # twice (b), nothing (inner.c), in_a_thread (c); then alone (c), which another thread enters.
    assert passed == structure.Passed(functions=4, files=3, changes=2)
    assert threading.gettrace() is None


def test_a_long_module_is_one_of_more_than_500_lines(structure, package):
    for number, lines in enumerate((500, 501)):
        (package / f"long{number}.py").write_text("x = 1\n" * lines)
    assert structure.count(package).long_modules == 1


def test_a_tree_has_one_package(structure, tmp_path):
    with pytest.raises(SystemExit, match="0 packages under src"):
        structure.find_package(tmp_path)


@pytest.mark.slow
def test_this_tree_is_counted(structure):
    counts = structure.count(structure.find_package(ROOT))
    assert counts.files > 100
    assert 0 < counts.import_share < 0.2
