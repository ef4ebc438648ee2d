"""The page in a real browser: it fits a desk and a phone, and the console stays silent."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from infoscope.images.source import open_images
from infoscope.report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--enable-logging=stderr",
    "--window-size=1600,1000",
    "--virtual-time-budget=5000",
    "--dump-dom",
]
# A window cannot be narrower than 500 pixels, a frame can.
FRAME = """<!doctype html><title>frame</title>
<script>window.onmessage = (event) => { document.body.textContent = event.data; };</script>
<body><iframe src="measured.html" width="WIDTH" height="900" style="border: 0"></iframe></body>
"""
MEASURE = """
<script>
window.onload = () => {
  const strips = [...document.querySelectorAll(".strip")];
  const maps = [...document.querySelectorAll(".tile img")];
  parent.postMessage(JSON.stringify({
    inner: window.innerWidth,
    scroll: document.documentElement.scrollWidth,
    strips: strips.length,
    scrolling: strips.filter(strip => strip.scrollWidth > strip.clientWidth).length,
    square: maps.every(map => Math.abs(map.clientWidth - map.clientHeight) <= 1 && map.clientWidth >= 112),
    decoded: maps.every(map => map.complete && map.naturalWidth === 4),
    stacked: strips.every(strip => [...strip.querySelectorAll("figure")].every(figure => {
      const [first, second] = [...figure.querySelectorAll(".tile")].map(tile => tile.getBoundingClientRect());
      return first.left === second.left && first.bottom <= second.top;
    })),
    text: Math.min(...[...document.querySelectorAll("svg text")].map(text => text.getBoundingClientRect().height)),
  }), "*");
};
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page with")
@pytest.mark.parametrize("width", [1440, 390])
def test_it_fits_the_screen_and_the_console_is_silent(fake_run, photographs, tmp_path, width):
    long = "a-name-without-a-place-to-break-" * 8
    names = {"model": f"models/of/{long}", "dictionary": long, "command": f"infoscope measure --model {long}"}
    ids = ["a.png", "b.png", "deep/c.png", "deep/d.png", long, f"{long}2"]
    cds = np.random.default_rng(0).gamma(2.0, 0.05, 40).tolist()
    run = fake_run(cds, ids=ids, names=names, source=long)
    page = write_report(run, open_images(photographs)).read_text(encoding="utf-8")
    (tmp_path / "measured.html").write_text(page.replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    browser = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in browser.stderr
    found = json.loads(re.search(r"<body>(.*)</body>", browser.stdout, re.DOTALL)[1])
    assert found["inner"] == width
    assert found["scroll"] <= width
    assert found["strips"] == 27  # eight of the lowest, middle and highest scores, and three more of the one class
    # Six columns fit a desk; on a phone they scroll inside their strip.
    assert found["scrolling"] == (0 if width == 1440 else 27)
    assert found["square"]
    assert found["decoded"]
    assert found["stacked"]
    assert found["text"] >= 9, "a chart's text is still legible"
