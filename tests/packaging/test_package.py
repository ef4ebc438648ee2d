"""The sdist and the wheel that is built from it hold what they should, and the wheel works where it is installed.

`make package` does the same in an environment that is empty at first; here the wheel sees the dependencies that are
installed already.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMOKE = Path(__file__).with_name("smoke.py")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of an sdist and a wheel."""
    pytest.importorskip("build", reason="the package is built by build: install infoscope[dev]")
    pytest.importorskip("hatchling", reason="the package is built by hatchling: install infoscope[dev]")
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def tracked(*under):
    """What git keeps under some folders."""
    if not (ROOT / ".git").exists():
        pytest.skip("only a checkout says what belongs to it")
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", *under], capture_output=True, text=True, check=True)
    return set(listed.stdout.split("\n")) - {""}


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_what_it_reads(built):
    (wheel,) = built.glob("infoscope-*-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "py.typed",
        "__main__.py",
        "views/report/web/bundle/site.js",
        "views/report/web/bundle/site.css",
        "views/report/web/bundle/LICENCES.txt",
        "views/report/site.html.j2",
        "views/comparison/comparison.html.j2",
        "analyses/probes/ade20k_classes.txt",
    ):
        assert f"infoscope/{name}" in names
    (info,) = {name.split("/")[0] for name in names if not name.startswith("infoscope/")}
    assert re.fullmatch(r"infoscope-\d+\.\d+\.\d+\.dist-info", info)
    assert f"{info}/licenses/LICENSE" in names
    # All that is tracked, without what the bundle is made from.
    sources = "src/infoscope/views/report/web/"
    expected = {
        path.removeprefix("src/")
        for path in tracked("src")
        if not (path.startswith(sources) and not path.startswith(f"{sources}bundle/"))
    }
    assert {name for name in names if name.startswith("infoscope/")} == expected


@pytest.mark.slow
def test_the_sdist_holds_the_checkout(built):
    (sdist,) = built.glob("infoscope-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ("src", "tests", "docs", "benchmarks", "examples", "reproductions")
    assert tracked(*wanted, "README.md", "CHANGELOG.md", "LICENSE", "Makefile", "constraints.txt") <= names


@pytest.mark.slow
def test_the_wheel_works_where_it_is_installed(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", site, wheel], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, SMOKE, site / "bin" / "infoscope"],
        # Compiling every kernel anew takes half a minute, and `make package` does it.
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site), "NUMBA_DISABLE_JIT": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["from"] == str(site / "infoscope")
    assert f"infoscope-{found['version']}-" in wheel.name


def test_the_oldest_python_is_the_one_that_tools_check_for():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest = re.fullmatch(r">=(\d+)\.(\d+)", settings["project"]["requires-python"]).groups()
    assert settings["tool"]["ruff"]["target-version"] == "py" + "".join(oldest)
    assert settings["tool"]["mypy"]["python_version"] == ".".join(oldest)
    prefix = "Programming Language :: Python :: "
    declared = [name.removeprefix(prefix) for name in settings["project"]["classifiers"] if name.startswith(prefix)]
    assert declared[0] == ".".join(oldest)
