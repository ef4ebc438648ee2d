"""Kernels compile with a cache, and without one where nothing can be written."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from numba.core.caching import CacheImpl

from infoscope.runtime import compilation
from infoscope.runtime.compilation import compiled

pytestmark = pytest.mark.slow


def square(number: int) -> int:
    return number * number


def test_a_kernel_keeps_its_machine_code():
    kernel = compiled()(square)
    assert kernel(12) == 144
    assert kernel.stats.cache_path


def test_a_kernel_compiles_where_no_folder_can_be_written(monkeypatch):
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    kernel = compiled()(square)
    assert kernel(12) == 144
    assert kernel.stats.cache_path is None


# The two smallest of the kernels, one of which calls the other.
KERNELS = """
import logging, sys, numpy as np
from infoscope.runtime.progress import progress
from infoscope.scope.interval_kernel import _tails
logging.getLogger("infoscope.progress").setLevel(sys.argv[1])
if sys.argv[2] == "silenced":
    with progress("Reading", 1, "images", enabled=False):
        _tails(np.arange(5.0), 2)
elif sys.argv[2] == "elsewhere":
    from numba import njit
    njit(lambda number: number + 1)(1)
else:
    _tails(np.arange(5.0), 2)
    _tails(np.arange(5.0, dtype=np.float32), 2)
"""


def told(folder, level="WARNING", way="plain", **environment):
    done = subprocess.run(
        [sys.executable, "-c", KERNELS, level, way],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return [line for line in done.stderr.splitlines() if line]


@pytest.mark.slow
def test_compiling_is_told_of_once_and_not_where_the_machine_code_is_kept(tmp_path):
    first = told(tmp_path)
    assert first[0] == "Compiling once, and kept for later runs: tails"
    assert all(line.startswith("Compiling: 1 kernel in ") for line in first[1:])
    assert len(first) <= 2
    assert told(tmp_path) == []


def test_who_wants_no_progress_is_not_told(tmp_path):
    assert told(tmp_path / "quiet", level="ERROR") == []
    assert told(tmp_path / "silenced", way="silenced") == []
    assert told(tmp_path / "elsewhere", way="elsewhere") == [], "another package's function is not ours to speak of"


def test_lines_come_every_other_second_with_what_was_done(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(compilation.time, "monotonic", lambda: now[0])
    teller = compilation._Teller()

    def kernel(name, seconds, module="infoscope.scope.some_kernel", cache="/kept"):
        function = SimpleNamespace(__name__=name, __module__=module)
        event = SimpleNamespace(
            data={"dispatcher": SimpleNamespace(py_func=function, stats=SimpleNamespace(cache_path=cache))}
        )
        teller.on_start(event)
        inner = SimpleNamespace(data=event.data | {})
        teller.on_start(inner)
        teller.on_end(inner)
        now[0] += seconds
        teller.on_end(event)

    for name, seconds in (("first", 1.5), ("second", 0.4), ("third", 1.0), ("fourth", 4.0), ("fifth", 1.0)):
        kernel(name, seconds)
    kernel("foreign", 9.0, module="numba.np.linalg")
    assert capsys.readouterr().err.splitlines() == [
        "Compiling once, and kept for later runs: first",
        "Compiling: 3 kernels in 3 s, now fourth",
        "Compiling: 4 kernels in 7 s, now fifth",
    ]
    teller = compilation._Teller()
    kernel("lonely", 1.0, cache=None)
    assert "for this process alone" in capsys.readouterr().err


def test_a_command_says_so_and_quiet_does_not(tmp_path):
    """A command that does nothing but run a kernel, so that little is compiled."""
    code = (
        "import sys, numpy as np; import infoscope.cli.saes as saes; from infoscope.cli.main import main\n"
        "def run(self):\n"
        "    from infoscope.scope.interval_kernel import _tails\n"
        "    _tails(np.arange(5.0), 2)\n"
        "saes.Saes.run = run; sys.exit(main(sys.argv[1:]))\n"
    )
    said = {}
    for flag in ("--quiet", "--json", "--verbose"):
        done = subprocess.run(
            [sys.executable, "-c", code, "saes", flag],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / flag)},
            capture_output=True,
            text=True,
            check=True,
        )
        said[flag] = "Compiling once" in done.stderr
        assert "Compiling" not in done.stdout
    assert said == {"--quiet": False, "--json": True, "--verbose": True}
