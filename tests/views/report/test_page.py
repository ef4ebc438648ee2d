from html.parser import HTMLParser

import numpy as np
import pytest

from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from infoscope.runtime.manifest import SkippedImage
from infoscope.scope.planning import Growth, plan_from
from infoscope.views.report.page import write_report

pytestmark = pytest.mark.slow

INLINE = {"a", "abbr", "b", "code", "em", "i", "span", "strong"}
FETCHING = {"src", "href", "srcset", "poster", "data", "action", "background", "xlink:href"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>.png'


class Page(HTMLParser):
    """A page taken apart: its elements, the text of its style sheets, and the text a reader sees."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.styles, self.text, self._inside = "", "", ""
        self.feed(page)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag
        self._part(tag)

    def handle_endtag(self, tag):
        self._inside = ""
        self._part(tag)

    def _part(self, tag):
        if tag not in INLINE:
            self.text += " "

    def handle_data(self, data):
        if self._inside == "style":
            self.styles += data
        else:
            self.text += data

    def all(self, tag, **wanted):
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and all(attributes.get(key) == value for key, value in wanted.items())
        ]

    def by_class(self, name):
        return [attributes for _, attributes in self.elements if name in (attributes.get("class") or "").split()]


@pytest.fixture
def build(fake_run):
    """``build(cds, images, features_shown, **run options)``: the page, taken apart."""

    def build(cds, images=None, features_shown=12, **options):
        run = fake_run(cds, **options)
        file = write_report(run, images, features_shown=features_shown)
        assert file == run.path / "report" / "index.html"
        return Page(file.read_text(encoding="utf-8"))

    return build


def shown_features(page):
    return [int(attributes["data-feature"]) for attributes in page.all("li") if "data-feature" in attributes]


def spectrum(size, seed=0):
    return np.random.default_rng(seed).gamma(2.0, 0.05, size).tolist()


def test_the_page_asks_for_its_own_files_alone(build, photographs):
    page = build([*spectrum(40), None], open_images(photographs))
    asked = set()
    for tag, attributes in page.elements:
        assert tag not in {"iframe", "object", "embed", "base", "img"}
        for name, value in attributes.items():
            if name in FETCHING and not value.startswith("#"):
                asked.add(value)
            assert not (name == "style" and "url" in value)
    assert asked == {"theme.js", "site.css", "site.js", "data:,"}
    assert not page.styles
    assert "http" not in page.text


def test_it_has_what_a_browser_and_a_screen_reader_need(build):
    page = build(spectrum(40))
    assert page.all("html", lang="en")
    assert page.all("meta", charset="utf-8")
    assert page.all("meta", name="viewport")
    assert page.all("title")
    assert len(page.all("h1")) == 1
    assert all(attributes.get("aria-label") or attributes["aria-hidden"] for attributes in page.all("svg"))
    assert all(region["aria-label"] for region in page.by_class("wide"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = [attributes["aria-labelledby"] for attributes in page.all("section") if "aria-labelledby" in attributes]
    links = [attributes["href"].removeprefix("#") for attributes in page.all("a")]
    routes = {link for link in links if link.startswith("/")}
    assert set(labels) | set(links) - routes <= set(ids)
    assert {f"/feature/{feature}" for feature in shown_features(page)} <= routes


def test_names_are_text_wherever_they_stand(build, tmp_path):
    names = {"model": HOSTILE, "dictionary": HOSTILE, "command": HOSTILE}
    ids = [HOSTILE, "b.png"]
    skipped = [SkippedImage(2, HOSTILE, HOSTILE)]
    page = build([0.1, 0.2, 0.4], ids=ids, names=names, skipped=skipped, source=HOSTILE)
    assert len(page.all("script")) == 2, "the site's own"
    assert not page.all("img")
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
    assert page.text.count(HOSTILE) >= 5


def test_the_counts_are_the_runs(build):
    columns = {4: {"cds_retained": None}, 5: {"images_active": 0, "vanished": None}, 6: {"vanished": 1.0}}
    page = build([0.1, 0.11, 0.12, 0.13, 0.5, None, None], columns=columns, skipped=[SkippedImage(1, "torn.jpg", "x")])
    for text in (
        "in the dictionary 7",
        "scored 5 71.4 %",
        "not scored 2",
        "of these, never active 1",
        "of these, mostly vanished 1",
        "minimum 0.100",
        "median 0.120",
        "maximum 0.500",
        "FVU 0.200",
        "on patch tokens 12,345",
        "L0 7.2",
        "dead features 12.5 %",
        "Fit of the SAE: fits",
        "Of 4 images, 1 could not be read and was left out: torn.jpg",
        "over 3 images; 4 top images a feature, crops 2 patches apart",
        "low-CDS, up to 0.315 4",
        "high-CDS, above 1",
        "20 valid of 20 pairs of the scored features; 2 features left out",
        "1 active one has no score",
        "1 of the 2 is flagged for retention: the score may rest on images that peak outside "
        "the shared patches. The features that depend most on context may not be here",
    ):
        assert text in page.text, text


def test_a_long_list_of_skipped_images_is_cut(build):
    page = build(spectrum(10), skipped=[SkippedImage(index, f"{index}.jpg", "torn") for index in range(30)])
    assert "19.jpg and 10 more" in page.text
    assert "20.jpg" not in page.text


def test_the_extremes_are_shown_in_order(build):
    cds = spectrum(60)
    page = build(cds)
    order = np.argsort(cds, kind="stable").tolist()
    extremes = order[:12] + order[:-13:-1]
    others = [feature for feature in range(60) if feature not in extremes]
    by_class = [[f for f in others if (cds[f] < 0.2) == local][:3] for local in (True, False)]
    assert shown_features(page) == extremes + by_class[0] + by_class[1]
    assert "The 12 features of the lowest CDS" in page.text
    assert "The 12 features of the highest CDS" in page.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cds", "local", "rest"), [([0.3, 0.1, 0.2, None, 0.4, 0.5], [1, 2, 0], [5, 4]), ([0.2, None], [0], [])]
)
def test_few_features_stand_on_one_side_only(build, cds, local, rest):
    page = build(cds)
    assert shown_features(page) == local + rest
    assert ("features of the highest CDS" in page.text) is bool(rest)


def test_of_each_class_those_with_the_highest_trust_are_shown(build):
    """Also those without a score, and none twice."""
    classes = {30: "diffuse", 31: "diffuse", 32: "diffuse", 33: "diffuse", 40: "position-bound"}
    columns = {feature: {"scope_class": name, "trust": feature / 100} for feature, name in classes.items()}
    page = build([*spectrum(40), None], columns=columns, features_shown=4)
    shown = shown_features(page)
    assert len(shown) == len(set(shown))
    of_classes = shown[8:]
    diffuse = [feature for feature in (33, 32, 31, 30) if feature not in shown[:8]]
    at = of_classes.index(diffuse[0])
    expected = [*diffuse[:3], 40]
    assert of_classes[at : at + len(expected)] == expected
    assert "Feature 40, CDS" not in page.text, "it has none"


def test_a_run_without_scores_says_so(build):
    page = build([None, None])
    assert "No feature has a score: none has 2 top images with activation" in page.text
    assert "not scored 2" in page.text
    assert not [attributes for attributes in page.all("svg") if "aria-label" in attributes]
    assert shown_features(page) == []
    assert "undefined too few pairs of maps to tell; there is no CDS 2 100.0 %" in page.text


def test_no_strips_on_request(build):
    page = build(spectrum(30), features_shown=0)
    assert shown_features(page) == []
    assert len([attributes for attributes in page.all("svg") if "aria-label" in attributes]) == 3


def test_classes_and_trust_are_stated(build):
    columns = {
        0: {"scope_class": "position-bound", "trust": 0.25},
        2: {"retained_disagrees": True},
        4: {"scope_class": "unsettled", "trust": None},
    }
    page = build([0.1, 0.12, 0.3, 0.6, 0.2, None], columns=columns)
    for text in (
        "class features expected false",
        "the map follows the pixels, as far as code noise lets it 1 16.7 % 5.0 %",
        "the map is so broad that pixels and place in the crop cannot be told apart 0 0.0 %",
        "the map stays at its place in the crop, whatever is there 1 16.7 % 5.0 %",
        "more jump than stay, and at most a quarter of the map keeps to its pixels 2 33.3 % 5.0 %",
        "its images do not settle which of these it is 1 ",
        "too few pairs of maps to tell; there is no CDS 1 16.7 %",
        "Trust of those that have it: the chance that as many other images give the same class",
        "50 % of features up to 0.75",
        "The calibrated score of 5 features",
        "has a reliability of 1.00",
        "1 feature would score differently over the pairs that keep their peak",
    ):
        assert text in page.text, text
    assert "older rules" not in page.text
    assert "its images do not settle which of these it is 1 16.7" not in page.text


@pytest.mark.parametrize("version", [2, 3])
def test_a_run_judged_by_an_earlier_form_of_the_rules_has_their_meanings(build, version):
    page = build([0.1, 0.12, 0.3, 0.6, None], rule_version=version)
    assert "most pairs jump or stay in place, and at most a quarter of the map keeps to its pixels" in page.text
    assert f"judged by an earlier form of the rules (version {version})" in page.text
    for text in ("more jump than stay", "older rules", "product of five", "does none of these"):
        assert text not in page.text


def test_a_run_judged_by_the_older_rules_says_so(build):
    page = build([0.1, 0.12, 0.3, 0.6, None], rule_version=1)
    for text in (
        "This run was judged by the older rules (thresholds); `infoscope judge RUN` gives it the newer ones.",
        "the map follows the pixels 2 40.0 %",
        "the map does none of these 2 40.0 %",
        "Trust (older rules) of those with a class, 0 to 1, no probability",
        "The product of five factors",
    ):
        assert text in page.text, text
    for text in ("expected false", "unsettled", "mixed not repeatable"):
        assert text not in page.text


def test_what_speaks_against_the_extremes_is_counted(build):
    columns = {0: {"scope_class": "diffuse"}, 1: {"effective_area": 9.5}, 2: {"cds_retained": None}}
    page = build([0.05, 0.1, 0.6], columns=columns)
    for text in (
        "1 of them is of class diffuse",
        "1 of the 1 is flagged for retention: ",
        "1 of the 2 low-CDS features is of class diffuse",
    ):
        assert text in page.text, text


@pytest.mark.slow
def test_one_mode_is_called_one_and_the_threshold_a_convention(build):
    page = build(spectrum(300))
    assert "One mode (dip " in page.text
    assert "is a convention." in page.text
    assert "(convention)" in page.text


@pytest.mark.slow
def test_two_modes_are_called_two_and_the_threshold_a_valley(build):
    generator = np.random.default_rng(0)
    cds = [*generator.normal(0.1, 0.02, 150).tolist(), *generator.normal(0.4, 0.02, 150).tolist()]
    page = build(cds)
    assert "More than one mode (dip " in page.text
    assert "is the lowest point between the two highest modes." in page.text
    assert "(valley)" in page.text


def test_without_photographs_the_page_says_so(build):
    page = build(spectrum(30))
    assert "The images could not be opened when this page was made (photographs)" in page.text


def test_a_missing_photograph_is_named(build, photographs):
    (photographs / "b.png").unlink()
    page = build(spectrum(30), open_images(photographs))
    assert (
        "1 photograph could not be read when this page was made; those maps stand on plain ground: b.png" in page.text
    )


def test_other_images_under_the_same_numbers_are_not_shown(build):
    images = open_images(np.zeros((4, 32, 32, 3), np.uint8))
    page = build(spectrum(30), images, ids=["0", "1", "2", "3"], sha256="f" * 64)
    assert "no longer the ones that were measured" in page.text


def test_what_cannot_be_done_is_said_in_a_line(fake_run):
    run = fake_run(spectrum(5))
    with pytest.raises(InfoscopeError, match="cannot show -1 features a side: choose 0 or more"):
        write_report(run, None, features_shown=-1)
    with pytest.raises(InfoscopeError, match="cannot show -1 images a feature: choose 0 or more"):
        write_report(run, None, gallery_images=-1)
    (run.path / "report").write_text("a file")
    with pytest.raises(InfoscopeError, match=r"cannot write .*run\.js"):
        write_report(run, None)


@pytest.mark.parametrize("known", [True, False])
def test_how_many_images_would_do_is_said_where_it_is_known(build, monkeypatch, known):
    plan = plan_from(Growth(signal=0.25, per_top_image=0.75, per_image=0.0), images=500, top_images=8)
    if known:
        monkeypatch.setattr("infoscope.measurement.controls.plan_of", lambda run: plan)
    text = build(spectrum(3)).text
    assert ("How many images would do?" in text) == known
    assert (f"As a rank correlation of CDS {plan.sentence()}." in text) == known
