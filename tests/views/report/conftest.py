"""Runs and photographs of `fake_runs`."""

import shutil
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


@pytest.fixture(scope="module")
def browser():
    """Chromium, which a test is skipped without."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium to open the site with")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright to drive the browser with")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
