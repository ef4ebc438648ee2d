"""The site in a real browser, opened from files: views, brush, search, keyboard, both widths, no request."""

import re
from pathlib import Path

import numpy as np
import pytest

from infoscope.images.source import open_images
from infoscope.views.report.page import write_report
from waiting import wait_until

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core to judge the pages with")

WIDTHS = {1440: 1000, 390: 844}
LONG = "a-name-without-a-place-to-break-" * 8
FEATURES = 200
VIEWS = ("", "#/explore", "#/feature/3")


@pytest.fixture(scope="module")
def site(make_run, make_photographs, tmp_path_factory):
    """A site with all that a run may have: outliers are left to the overview's own tests."""
    folder = tmp_path_factory.mktemp("site")
    ids = ["a.png", "b.png", "deep/c.png", "deep/d.png", f"{LONG}.png"]
    random = np.random.default_rng(0)
    cds = [None, *random.gamma(2.0, 0.05, FEATURES - 1).tolist()]
    columns = {
        feature: {"effective_area": float(area), "trust": float(trust)}
        for feature, (area, trust) in enumerate(
            zip(random.uniform(1, 12, FEATURES), random.random(FEATURES), strict=True)
        )
    }
    columns[5] |= {"scope_class": "diffuse"}
    columns[6] |= {"scope_class": "position-bound"}
    names = {"model": f"models/of/{LONG}", "dictionary": LONG, "command": f"infoscope measure --model {LONG}"}
    emd = {(3, 1): None}
    # On the shared 4 x 4 patches: from row 1, column 1 to row 0, column 0.
    maps = {(3, 0, 0): {(3, 3): 1.5}, (3, 0, 1): {(0, 0): 1.5}, (3, 1, 1): {}}
    run = make_run(folder / "run", cds, ids=ids, names=names, columns=columns, emd=emd, maps=maps, curve=(1, 2, 3))
    return write_report(run, open_images(make_photographs(folder / "photographs")))


class Tab:
    """A page that remembers what it complained of and what it asked for."""

    def __init__(self, browser, site: Path, width: int, **options):
        self.site, self.width = site, width
        self.context = browser.new_context(viewport={"width": width, "height": WIDTHS[width]}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, route=""):
        self.page.goto(f"{self.site.as_uri()}{route}")
        ready = {"": "[data-feature] .strip", "#/explore": ".features tbody tr", "#/feature": "#feature h1"}
        self.page.wait_for_selector(ready[re.match(r"(#/\w+)?", route)[0]])
        return self.page

    def has(self, text):
        return text in " ".join(self.page.locator("main").inner_text().split())


@pytest.fixture
def tab(browser, site):
    """``tab(width)``: a tab; at the end nothing may have gone wrong, and no request have left the folder."""
    tabs = []

    def make(width=1440, **options):
        tabs.append(Tab(browser, site, width, **options))
        return tabs[-1]

    yield make
    for one in tabs:
        one.context.close()
        assert one.complaints == []
        folder = site.parent.as_uri()
        assert [url for url in one.asked if not url.startswith((folder, "data:"))] == []


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_every_view_fits_the_screen_and_is_accessible(tab, width, dark):
    one = tab(width, color_scheme="dark" if dark else "light")
    for view in VIEWS:
        page = one.open(view)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        found = axe.Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
        serious = [
            (rule["id"], rule["nodes"][0]["html"]) for rule in found if rule["impact"] in ("serious", "critical")
        ]
        assert serious == [], view
        assert page.locator("main h1:visible").count() == 1


def test_a_drag_selects_and_the_address_keeps_it(tab):
    one = tab()
    page = one.open("#/explore")
    assert one.has(f"All {FEATURES} features are selected.")
    assert one.has(f"Drawn: the {FEATURES - 1} that have effective area and CDS")
    box = page.locator(".plot .u-over").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + box["height"], steps=5)
    page.mouse.up()
    low, high = (float(page.locator(f"[data-column=cds] input >> nth={end}").input_value()) for end in (0, 1))
    area = [float(page.locator(f"[data-column=effective_area] input >> nth={end}").input_value()) for end in (0, 1)]
    rows = page.locator(".features tbody tr")
    shown = [[float(text) for text in row.locator("td").all_inner_texts()[2:]] for row in rows.all()]
    assert 0 < len(shown) <= 25
    # The numbers in the fields and in the table are rounded.
    assert all(low - 1e-3 <= cds <= high + 1e-3 for cds, *_ in shown)
    assert all(area[0] - 0.01 <= found[3] <= area[1] + 0.01 for found in shown)
    selected = page.locator(".counts").inner_text()
    assert f"of {FEATURES} features are selected" in selected
    wait_until(page, "location.hash.includes('in.cds=')")
    page.reload()
    page.wait_for_selector(".features tbody tr")
    assert page.locator(".counts").inner_text() == selected
    brushed = page.locator(".plot .brush").bounding_box()
    assert brushed["width"] == pytest.approx(0.5 * box["width"], abs=4)
    assert brushed["height"] == pytest.approx(0.5 * box["height"], abs=4)
    page.get_by_role("button", name="Clear the selection").click()
    assert one.has(f"All {FEATURES} features are selected.")


def test_classes_ranges_and_sorting_choose_what_the_table_lists(tab):
    one = tab()
    page = one.open("#/explore")
    for name in ("local", "global", "undefined"):
        page.get_by_role("checkbox", name=name).uncheck()
    assert one.has(f"2 of {FEATURES} features are selected")
    assert sorted(page.locator(".features tbody th").all_inner_texts()) == ["5", "6"]
    page.get_by_role("button", name="Clear the selection").click()
    page.get_by_label("Sort by").select_option("feature")
    page.get_by_label("highest first").check()
    wait_until(page, f"document.querySelector('.features tbody th').innerText === '{FEATURES - 1}'")
    page.get_by_role("button", name="Next").click()
    assert page.locator(".features tbody th").first.inner_text() == str(FEATURES - 26)
    page.get_by_label("Limit another column").select_option("trust")
    page.get_by_label("trust, at least").fill("0.9")
    trust = [float(row.locator("td").nth(4).inner_text()) for row in page.locator(".features tbody tr").all()]
    assert min(trust) >= 0.9
    page.get_by_label("trust, at least").fill("2")
    assert one.has("No feature is in this selection.")
    page.locator("#column-y").select_option("trust")
    wait_until(page, "document.querySelector('.scatter').ariaLabel.startsWith('trust against')")


def test_a_deep_link_opens_the_feature(tab):
    one = tab()
    page = one.open("#/feature/3")
    assert page.title().startswith("Feature 3 · ")
    assert page.locator("main h1:visible").inner_text().split() == [
        "Feature",
        "3",
        page.locator("h1 .chip:visible").inner_text(),
    ]
    assert page.locator(".gallery figure").count() == 4
    assert page.locator(".gallery .tile").count() == 12
    assert one.has("4 strongest of 5 top images")
    # The second picture's second map is empty: no distance, and no arrow.
    second = page.locator(".gallery figure").nth(1)
    assert "No distance" in second.inner_text()
    assert second.locator(".route").count() == 0
    assert page.locator(".gallery figure").first.locator(".route").count() == 1
    label = page.locator(".gallery .tile").first.get_attribute("aria-label")
    assert re.fullmatch(r"Feature 3, image a\.png, first crop, shared pixels: .*", label)
    assert page.locator(".curve canvas").count() == 1
    for text in (
        "Controls",
        "calibrated score",
        "share of D",
        "Known for 199 of 200 features",
        "By co-firing",
        "Not here:",
    ):
        assert one.has(text), text
    page.evaluate("document.querySelectorAll('.gallery img').forEach((image) => image.scrollIntoView())")
    wait_until(page, "[...document.querySelectorAll('.gallery img')].every((image) => image.naturalWidth > 0)")


def test_what_is_missing_is_said(tab):
    one = tab()
    one.open("#/feature/0")
    assert one.has("No score: 1 valid pair, and a score needs 2.")
    one.open(f"#/feature/{FEATURES}")
    assert one.has(f"Features have the numbers 0 to {FEATURES - 1}")


def test_search_finds_by_number(tab):
    one = tab()
    page = one.open()
    page.get_by_label("Feature number").fill("123456")
    page.keyboard.press("Enter")
    assert page.get_by_role("alert").filter(has_text=f"they go from 0 to {FEATURES - 1}").count() == 1
    page.get_by_label("Feature number").fill("42")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Feature 42')")
    assert page.url.endswith("#/feature/42")
    page.go_back()
    page.wait_for_selector("#overview:visible")


def test_the_keyboard_reaches_everything(tab):
    one = tab()
    page = one.open("#/explore")
    reached = []
    for _ in range(400):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement === document.body ? '' : document.activeElement.outerHTML.slice(0, 80)"
            )
        )
        if reached[-1] == "" or (len(reached) > 5 and reached[-1] == reached[0]):
            break
    wanted = "a[href], button:enabled, input, select, .scatter"
    controls = (
        page.locator(wanted).locator("visible=true").evaluate_all("all => all.map((e) => e.outerHTML.slice(0, 80))")
    )
    assert set(controls) <= set(reached)

    page.locator(".scatter").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    text = page.locator(".readout").inner_text()
    feature = re.search(r"Feature (\d+)", text)[1]
    assert "effective area" in text
    page.keyboard.press("Enter")
    page.wait_for_selector(f"h1:has-text('Feature {feature}')")
    assert page.evaluate("document.activeElement.tagName") == "H1", "a reader hears where they are"


def test_the_theme_is_the_readers_choice(tab):
    page = tab().open()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme: auto").click()
    assert page.evaluate(ground) != light
    page.reload()
    assert page.evaluate(ground) != light


def test_without_its_script_the_overview_is_there(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.as_uri())
    text = page.locator("main").inner_text()
    assert "The overview needs none" in text
    assert "Feature 3" in text or "CDS 0." in text
    context.close()
