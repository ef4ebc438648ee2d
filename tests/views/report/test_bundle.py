"""The bundle that is kept with the sources is made of these sources."""

import hashlib
import re
from importlib.resources import files

import pytest

WEB = files("infoscope.views.report").joinpath("web")


@pytest.mark.parametrize("name", ["theme.js", "site.js", "site.css"])
def test_the_bundle_is_made_of_the_sources(name):
    if not WEB.joinpath("src").is_dir():
        pytest.skip("an installed package has the bundle alone")
    sources = ["build.mjs", "package.json", "package-lock.json"]
    sources += [f"src/{file.name}" for file in WEB.joinpath("src").iterdir()]
    digest = hashlib.sha256()
    for source in sorted(sources):
        digest.update(f"{source}\n".encode())
        digest.update(WEB.joinpath(*source.split("/")).read_bytes())
    first = WEB.joinpath("bundle", name).read_text(encoding="utf-8").partition("\n")[0]
    found = re.search(r"made from sources ([0-9a-f]{64})", first)
    assert found is not None
    assert found[1] == digest.hexdigest(), "run `npm ci && npm run build` in src/infoscope/views/report/web"


def test_what_is_bundled_comes_with_its_licence():
    text = WEB.joinpath("bundle", "LICENCES.txt").read_text(encoding="utf-8")
    assert "uPlot" in text
    assert "The MIT License" in text


def test_the_bundle_is_small():
    assert sum(WEB.joinpath("bundle", name).stat().st_size for name in ("theme.js", "site.js", "site.css")) < 150_000
