"""What runs, scopes and features show in a notebook: read as HTML, and as text."""

import base64
import io
import os
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from PIL import Image

from fake_runs import IDS, fake_run, make_photographs
from infoscope.errors import InfoscopeError
from infoscope.measurement.result import Scope
from infoscope.runtime.run import MAPS_FILE, open_run

HOSTILE = "<script>alert('x')</script>&\"'"
VOID = {"img", "br", "hr", "meta"}


class Page(HTMLParser):
    """Tags with their attributes and the words between them; complains of tags that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], "", []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.words += " " if tag in ("td", "th") else ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(self.words.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_photographs(tmp_path_factory.mktemp("notebook") / "photographs")


@pytest.fixture(scope="module")
def run(tmp_path_factory, folder):
    cds = [0.05, 0.3, None, *np.linspace(0.02, 0.4, 37).tolist()]
    columns = {
        3: {"scope_class": "position-bound", "class_evidence": HOSTILE, "trust_reasons": HOSTILE},
        2: {"pairs": 1, "trust_reasons": "", "pairs_jumping": 0.5, "pairs_following": 0.25},
    }
    path = tmp_path_factory.mktemp("notebook") / "run"
    names = {"model": f"some/{HOSTILE}", "dictionary": HOSTILE}
    return fake_run(path, cds, columns=columns, curve=(1, 2), source=str(folder), names=names, emd={(0, 1): None})


def check_harmless(page):
    """Nothing runs, nothing is asked for, and what a run says is only ever words."""
    assert not {"script", "link", "iframe", "object", "form", "base", "meta"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action"):
            assert attributes.get(name, "data:").startswith("data:")
        assert "url(" not in attributes.get("style", "")
    assert HOSTILE in page.words


def test_a_run_shows_classes_threshold_fit_and_a_short_table(run):
    text = run._repr_html_()
    page = Page(text)
    check_harmless(page)
    assert "@import" not in text
    assert "url(" not in text
    for part in (
        "Scope of 40 features",
        "39 scored features by class",
        f"the threshold {run.partition['threshold']:.3f}",
        "leaves 20.0 % of the tokens' variance unexplained",
        "4 images of photographs; 4 top images a feature, shift 2",
        "All columns: .scope",
    ):
        assert part in page.text
    counts = run.scope["scope_class"].value_counts()
    for name, count in counts.iter_rows():
        assert re.search(rf"{name} {count} {100 * count / 40:.1f} %", page.text)
    # Bars of the spectrum are as high as the counts: their areas add up to the scored features.
    (drawing,) = [attributes for attributes in page.all("svg") if attributes["class"] == "spectrum"]
    assert drawing["aria-label"] == "Histogram of CDS over 39 scored features, by class"
    bars = re.findall(r'fill="var\(--c-([\w-]+), #\w+\)" d="M[\d.]+ [\d.]+h[\d.]+v([\d.]+)', text)
    total = sum(float(height) for _, height in bars)
    local = sum(float(height) for name, height in bars if name == "local")
    scored = run.scope.filter(pl.col("cds").is_not_null())
    assert local / total == pytest.approx(scored.filter(scope_class="local").height / 39, abs=0.01)


def test_a_scope_shows_the_same_whether_it_was_written_or_not(run):
    page = Page(run._repr_html_()).text.replace(".scope.", ".table.")
    for maps in (run.maps, run.path / MAPS_FILE):
        scope = Scope(run.scope, run.top_images, maps, run.manifest, run.shift_curve)
        assert Page(scope._repr_html_()).text == page
        assert scope.feature(1)._repr_html_() == run.feature(1)._repr_html_()
        assert repr(scope).splitlines()[:3] == repr(run).splitlines()[:3]


def test_a_feature_shows_score_class_trust_controls_and_pictures(run, monkeypatch):
    monkeypatch.setattr(os, "walk", None)  # a folder of a million photographs is not listed for four of them
    page = Page(run.feature(0)._repr_html_())
    check_harmless(page)
    for part in (
        "Feature 0, local",
        "0.050 CDS, 95 % interval 0.030 to 0.070. 4 valid pairs of 4 top images; a score needs 2.",
        "Class local: 3 of 4 pairs jump.",
        "Trust 0.750 chance that as many other images agree; posterior: local 0.95.",
        "Active in 4 of 4 images, 10.00 % of their patches.",
        "Shift moves 0.05 patches at 1, 0.10 patches at 2.",
        "calibrated score 0.125 ratio",
        "effective area 2 patches",
        # D of 4 x 4 patches is 4.24.
        "1. moves 0.21 patches; a.png",
        "2. no distance; b.png",
    ):
        assert part in page.text
    assert "Without photographs" not in page.text
    pictures = page.all("img")
    assert len(pictures) == 2 * len(IDS)
    for attributes in pictures:
        picture = Image.open(io.BytesIO(base64.b64decode(attributes["src"].partition(",")[2])))
        assert picture.size == (192, 192)
        assert attributes["alt"]
    assert [attributes["title"] for attributes in page.all("figure")] == IDS


def test_a_feature_without_a_score_says_why(run):
    page = Page(run.feature(2)._repr_html_())
    assert "no CDS 1 valid pairs of 4 top images; a score needs 2." in page.text
    assert "Pairs 25 % follow the pixels, 50 % jump or vanish." in page.text
    assert "calibrated score \N{EN DASH}" in page.text


def test_photographs_that_are_gone_are_said_to_be(fake_gone, folder):
    page = Page(fake_gone.feature(0)._repr_html_())
    assert "Without photographs: no such folder of images: gone/photographs/of/mine; check the path" in page.text
    assert len(page.all("img")) == 2 * len(IDS)
    assert "Without photographs" not in Page(fake_gone.feature(0, images=folder)._repr_html_()).text


@pytest.fixture
def fake_gone(tmp_path):
    return fake_run(tmp_path / "run", [0.1, 0.2], source="gone/photographs/of/mine")


def test_one_photograph_that_cannot_be_read_is_named(tmp_path):
    photographs = make_photographs(tmp_path / "photographs")
    run = fake_run(tmp_path / "run", [0.1], source=str(photographs))
    (photographs / "b.png").write_bytes(b"no picture")
    captions = re.findall(
        r"\d\. moves [\d.]+ patches; [\w.]+(?:, photograph cannot be read)?", run.feature(0)._repr_html_()
    )
    assert [caption.endswith("cannot be read") for caption in captions] == [False, True, False, False]


def test_text_is_short(run):
    assert repr(run).startswith("Scope of 40 features, 39 scored: ")
    assert f"threshold {run.partition['threshold']:.3f} (" in repr(run)
    assert "fit: FVU 0.200, L0 7.2" in repr(run)
    assert repr(run.feature(0)).splitlines() == [
        "Feature 0, local: CDS 0.050 (0.030 to 0.070), 4 valid pairs",
        "  class: 3 of 4 pairs jump",
        "  trust: 0.750 chance that as many other images agree; posterior: local 0.95",
        "  active in 4 images of photographs",
    ]


def test_a_run_judged_by_the_older_rules_says_so(tmp_path):
    columns = {1: {"trust_reasons": "pairs 0.75 (3 of 4)"}}
    run = fake_run(tmp_path / "run", [0.05, 0.1, 0.3], columns=columns, rule_version=1)
    line = "judged by the older rules (thresholds); `infoscope judge RUN` gives it the newer ones"
    assert line in repr(run).splitlines()[3]
    page = Page(run._repr_html_()).text
    assert f"This run was {line}." in page
    assert "trust (older rules)" in page
    assert "expected false" not in page
    said = "0.750 of 1, no probability, lowered by pairs 0.75 (3 of 4)"
    assert f"trust (older rules): {said}" in repr(run.feature(1))
    assert f"Trust (older rules) {said}." in Page(run.feature(1)._repr_html_()).text


def test_unsettled_features_are_counted_and_have_no_trust(tmp_path):
    unsettled = {"scope_class": "unsettled", "trust": None, "trust_reasons": "posterior: mixed 0.60, local 0.30"}
    run = fake_run(tmp_path / "run", [0.05, 0.1, 0.3], columns={1: unsettled, 2: {"scope_class": "mixed"}})
    page = Page(run._repr_html_()).text
    for part in ("features share expected false", "local 1 33.3 % 5.0 %", "mixed 1 33.3 % 5.0 %", "unsettled 1 "):
        assert part in " ".join(page.split())
    assert "unsettled 1 33" not in page
    assert "1 local (33.3%, expected false 5.0%), 1 mixed" in repr(run)
    assert "none: no class of its own; posterior: mixed 0.60, local 0.30" in repr(run.feature(1))


def test_a_feature_that_is_not_there_is_refused(run):
    for number in (40, -1):
        with pytest.raises(InfoscopeError, match=f"there is no feature {number}: choose 0 to 39"):
            run.feature(number)
    assert run.feature(3).values["effective_area"] == 2.0
    assert run.feature(3).scope_class == "position-bound"


def test_a_run_that_cannot_be_read_says_so_in_place_of_a_traceback(fake_gone):
    broken = open_run(fake_gone.path)
    (fake_gone.path / "scope.parquet").write_bytes(b"broken")
    assert "cannot read" in broken._repr_html_()
    assert repr(broken).startswith("<Run: cannot read")


def test_a_run_without_scores_shows_itself(tmp_path):
    run = fake_run(tmp_path / "run", [None, None])
    page = Page(run._repr_html_())
    assert "No feature has a score" in page.text
    assert "Feature 1, undefined" in Page(run.feature(1)._repr_html_()).text
