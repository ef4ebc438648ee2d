"""Runs and photographs of `fake_runs`."""

from collections.abc import Callable
from pathlib import Path

import pytest

import fake_runs
from infoscope.images.source import ids_sha256, open_images
from infoscope.runtime.run import Run


@pytest.fixture
def fake_run(tmp_path: Path) -> Callable[..., Run]:
    """``fake_run(cds, ...)``: a run in a fresh directory; see `fake_runs`."""
    return lambda cds, **options: fake_runs.fake_run(tmp_path / "run", cds, **options)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """``make_run(path, cds, ...)``: a run in a directory; see `fake_runs`."""
    return fake_runs.fake_run


@pytest.fixture(scope="session")
def make_photographs() -> Callable[[Path], Path]:
    """``make_photographs(folder)``: the run's images, each of noise of its own."""
    return fake_runs.make_photographs


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with the run's images."""
    return fake_runs.make_photographs(tmp_path / "photographs")


@pytest.fixture
def folder_sha256(photographs: Path) -> str:
    return ids_sha256(open_images(photographs))
