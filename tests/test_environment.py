"""Importing the library leaves the process's environment alone; the command line says how its threads wait."""

import json
import os
import subprocess
import sys

import pytest
import threadpoolctl

pytestmark = pytest.mark.slow

WAITING = "OMP_WAIT_POLICY"


def python(code, *arguments, **environment):
    """What a fresh Python prints as its last line, as JSON, and what it says on stderr."""
    clean = {key: value for key, value in os.environ.items() if key != WAITING}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=clean | environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


# Also where C code would see it: os.environ is Python's copy.
SEEN = """
import ctypes, json, os, sys
def seen():
    found = ctypes.CDLL(None).getenv
    found.restype = ctypes.c_char_p
    return {name: value.decode() for name in [*os.environ, "OMP_WAIT_POLICY"] if (value := found(name.encode()))}
"""


@pytest.mark.parametrize(
    "code",
    [
        "import infoscope",
        "import infoscope.cli.main",
        "import torch, infoscope",
        "import infoscope; [getattr(infoscope, name) for name in infoscope.__all__]",
    ],
)
def test_importing_leaves_the_environment_alone(code):
    # polars sets its allocator's own variable as it is imported, whoever imports it.
    whole = f"{SEEN}\nimport polars\nbefore = dict(os.environ), seen()\n{code}\nafter = dict(os.environ), seen()\n"
    difference, _ = python(
        f"{whole}print(json.dumps([[*set(a.items()) ^ set(b.items())] for a, b in zip(before, after)]))"
    )
    assert difference == [[], []]


RUN = "import json, os, sys; from infoscope.cli.main import main; status = main(sys.argv[1:]); "


def test_the_command_line_sets_how_threads_wait():
    tell = RUN + f"print(json.dumps([os.environ.get({WAITING!r}), 'torch' in sys.modules]))"
    assert python(tell, "completion", "bash")[0][0] == "passive"
    assert python(tell, "completion", "bash", **{WAITING: "active"})[0][0] == "active", "who chose is heard"
    late = f"import torch; {tell}"
    assert python(late, "completion", "bash")[0][0] is None, "too late, so nothing is set"


def test_it_is_set_before_torch_is_loaded_and_reaches_other_processes(tmp_path):
    """``python -m infoscope`` and the installed command are the same function; a spy stands in for torch's place."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Spy:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch' and not Spy.told:\n"
        "            Spy.told = True\n"
        "            sys.stderr.write(f'torch sees {os.environ.get(\"OMP_WAIT_POLICY\")}\\n')\n"
        "    told = False\n"
        "sys.meta_path.insert(0, Spy())\n"
    )
    clean = {key: value for key, value in os.environ.items() if key != WAITING}
    done = subprocess.run(
        [sys.executable, "-m", "infoscope", "measure", "--sae", "none", "--images", "none", "--out", f"{tmp_path}/out"],
        env=clean | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "torch sees passive" in done.stderr


def test_one_debug_line_says_how_where_torch_came_first():
    log = "import logging; logging.basicConfig(level=logging.DEBUG, format='%(name)s %(message)s'); "
    kernels = "import infoscope.dictionaries.topk_kernel, infoscope.scope.transport_kernel; print('null')"
    for code, lines in (
        (f"{log}import torch; {kernels}", 1),
        (f"{log}import torch; import os; os.environ[{WAITING!r}] = 'passive'; {kernels}", 0),
    ):
        _, err = python(code)
        said = [line for line in err.splitlines() if "spin while they wait" in line]
        assert len(said) == lines
        assert all("set OMP_WAIT_POLICY=passive before Python starts" in line for line in said)
    late = f"import torch; {RUN}print(json.dumps(status))"
    for flags, lines in ((("--verbose",), 1), ((), 0), (("--quiet",), 0)):
        _, err = python(late, "saes", *flags)
        assert err.count("spin while they wait") == lines


def test_the_first_parallel_kernel_leaves_torch_as_many_threads_as_it_was_given():
    kernel = """
import json, torch, numpy as np
torch.set_num_threads(1)
assert torch.get_num_threads() == 1  # before this torch has not looked, and would set its number later
from infoscope.dictionaries.codes_kernel import image_maximum
image_maximum(np.zeros(5, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), 4, np.zeros((1, 3), np.float32))
import numba
print(json.dumps([torch.get_num_threads(), numba.get_num_threads(), numba.threading_layer()]))
"""
    (torches, numbas, _), _ = python(kernel, NUMBA_NUM_THREADS="2")
    assert (torches, numbas) == (1, 2)


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="these tests run in one process")
def test_where_tests_run_side_by_side_no_process_has_more_threads_than_it_was_given():
    import numpy  # noqa: F401
    import torch  # noqa: F401

    given = int(os.environ["OMP_NUM_THREADS"])
    pools = {pool["user_api"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    assert {pools["blas"], pools["openmp"]} == {given}
