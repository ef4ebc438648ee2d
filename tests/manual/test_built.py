"""The manual as it is built: strictly, complete, whole in itself, and searched in a real browser from disk."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import infoscope
from snippets import ROOT

pytest.importorskip("zensical", reason='no zensical to build the manual with: pip install -e ".[docs]"')

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Attributes by which a page has something loaded, rather than leads somewhere.
LOADS = {"img": ("src", "srcset"), "source": ("src", "srcset"), "link": ("href",)} | dict.fromkeys(
    ("script", "iframe", "embed", "video", "audio", "track", "input"), ("src",)
)


def lay_out(folder: Path) -> None:
    """The manual's sources, with the pages that are made."""
    ignored = shutil.ignore_patterns("api", "commands.md")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=ignored)
    shutil.copytree(ROOT / "manual", folder / "manual", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", folder)
    (folder / "src").symlink_to(ROOT / "src")


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manual")
    lay_out(folder)
    spec = importlib.util.spec_from_file_location("manual_pages", folder / "manual" / "pages.py")
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # its dataclass looks its module up
    spec.loader.exec_module(made)
    made.make(folder / "docs")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Page(HTMLParser):
    """What a page loads, where it leads, and what can be led to in it."""

    def __init__(self, path: Path):
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        self.loaded += [given[name] for name in LOADS.get(tag, ()) if given.get(name)]
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if given.get("style"):
            self.loaded += re.findall(r"url\(['\"]?([^'\")]+)", given["style"])


@pytest.fixture(scope="module")
def pages(manual):
    return {path: Page(path) for path in sorted((manual / "site").rglob("*.html")) if path.name != "404.html"}


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(manual, pages):
    assert len(pages) > 30
    for path, page in pages.items():
        assert page.loaded
        for target in page.loaded:
            found = urlsplit(target)
            if found.scheme == "data":
                continue
            assert not found.scheme + found.netloc, f"{path.name} loads {target}"
            assert (path.parent / unquote(found.path)).is_file(), f"{path.name} loads {target}, which is not there"
    for style in (manual / "site").rglob("*.css"):
        for target in re.findall(r"(?:url\(|@import )['\"]?([^'\")\s]+)", style.read_text()):
            assert target.startswith("data:") or not urlsplit(target).netloc, f"{style.name} loads {target}"


@pytest.mark.slow
def test_every_link_leads_somewhere(pages):
    led = 0
    for path, page in pages.items():
        for link in page.links:
            found = urlsplit(link)
            if found.scheme or found.netloc:
                continue
            target = (path.parent / unquote(found.path)).resolve() if found.path else path
            assert target.is_file(), f"{path.name}: {link}"
            if found.fragment and target in pages:
                assert unquote(found.fragment) in pages[target].anchors, f"{path.name}: {link}"
            led += 1
    assert led > 1000


def listed(entries) -> list[str]:
    """The pages of a navigation."""
    if isinstance(entries, str):
        return [entries]
    if isinstance(entries, dict):
        entries = entries.values()
    return [page for entry in entries for page in listed(entry)]


@pytest.mark.slow
def test_every_page_is_in_the_navigation(manual):
    nav = listed(tomllib.loads((manual / "zensical.toml").read_text())["project"]["nav"])
    there = {path.relative_to(manual / "docs").as_posix() for path in (manual / "docs").rglob("*.md")}
    assert sorted(nav) == sorted(there), "the navigation is in zensical.toml"


@pytest.mark.slow
def test_every_public_name_and_command_is_there(manual, pages):
    found = [anchor for path, page in pages.items() if path.parent.name == "api" for anchor in page.anchors]
    for name in infoscope.__all__:
        assert found.count(f"infoscope.{name}") == 1, name
    commands = (manual / "site" / "commands.html").read_text()
    help_ = subprocess.run(
        [sys.executable, "-m", "infoscope.cli.main", "--help"], capture_output=True, text=True, check=True
    )
    names = re.findall(r"\{(\w[\w,\s]*)\}", help_.stdout)[0].split(",")
    assert len(names) > 10
    for name in names:
        assert f'id="infoscope-{name.strip()}"' in commands
    assert "--top-images" in commands
    assert "\x1b" not in commands


def test_what_leads_nowhere_is_an_error(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "zensical.toml").write_text('[project]\nsite_name = "x"\n')
    (tmp_path / "docs" / "index.md").write_text("# X\n\n[a](index.md#x) [b](absent.md) [c](index.md#absent)\n")
    done = build(tmp_path)
    assert done.returncode != 0
    assert "2 issues found" in done.stdout + done.stderr


@pytest.mark.slow
def test_readme_leads_somewhere(pages):
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)
    assert len(links) > 10
    by_name = {path.stem: page for path, page in pages.items() if path.parent.name == "site"}
    for link in links:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).is_file(), link
        assert not anchor or anchor in by_name[Path(path).stem].anchors, link


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the manual with")
def test_it_is_read_and_searched_from_disk(manual):
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright to drive the browser with")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width, scheme in ((1440, "light"), (390, "dark")):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            page.set_default_timeout(60_000)
            complaints, asked = [], []
            page.on("console", lambda message, said=complaints: said.append(message.text))
            page.on("pageerror", lambda error, said=complaints: said.append(str(error)))
            page.on("request", lambda request, urls=asked: urls.append(request.url))
            page.goto((manual / "site" / "index.html").as_uri())
            shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
            light = sum(map(int, re.findall(r"\d+", shade)[:3])) > 382
            assert light == (scheme == "light"), shade
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.keyboard.press("Control+k")
            page.keyboard.type("bootstrap")
            found = page.locator("a[href*='run-directory.html?h=bootstrap']").first
            found.wait_for()
            assert complaints == []
            found.click()
            page.wait_for_url("**/run-directory.html*")
            assert all(url.startswith(("file:", "data:", "blob:", "about:")) for url in asked), asked
            context.close()
        browser.close()
