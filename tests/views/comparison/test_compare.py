"""Runs side by side: their numbers against the tables, their names, what differs, and what the page says."""

import json
import re
import shutil
import subprocess

import numpy as np
import polars as pl
import pytest

from commands import document
from fake_runs import reseal
from infoscope.analyses.comparison import compare_runs
from infoscope.cli.main import main
from infoscope.errors import InfoscopeError
from infoscope.options import RULE_VERSIONS
from infoscope.runtime.run import open_run
from infoscope.scope.classes import CLASSES
from infoscope.scope.modes import dip_test
from infoscope.views.comparison.page import in_block_order, write_comparison

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def runs(place):
    return [place / "sweep" / block / "scope" for block in ("block-00", "block-02")]


def changed(run, to, *, manifest=None, columns=None):
    """A copy of a run with entries of its manifest changed, as ``{"options.shift": 1}``, or columns added."""
    shutil.copytree(run, to)
    value = json.loads((to / "manifest.json").read_text())
    for path, new in (manifest or {}).items():
        *above, last = path.split(".")
        inner = value
        for key in above:
            inner = inner[key]
        inner[last] = new
    (to / "manifest.json").write_text(json.dumps(value))
    if columns:
        pl.read_parquet(to / "scope.parquet").with_columns(**columns).write_parquet(to / "scope.parquet")
    reseal(to)
    return to


def with_classes(run, to, seed=0):
    """A copy with made-up classes and calibrated scores."""
    random = np.random.default_rng(seed)
    features = open_run(run).scope.height
    classes = pl.Series(random.choice(CLASSES, features, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05]))
    calibrated = pl.Series([None, *random.uniform(0, 1.5, features - 1)])
    return changed(run, to, columns={"scope_class": classes, "cds_calibrated": calibrated})


def besides_repeatability(comparison):
    """The warnings, without which classes repeat in these small runs."""
    return [line for line in comparison.warnings if not line.startswith("Not repeatable in ")]


def test_numbers_are_those_of_the_tables(runs):
    comparison = compare_runs(runs)
    for path, run in zip(runs, comparison.runs, strict=True):
        scope = open_run(path).scope
        cds = scope["cds"].drop_nulls().to_numpy()
        assert (run.features, run.scored) == (16, len(cds))
        assert run.scored_share == len(cds) / 16
        shares = {"minimum": 0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "maximum": 1}
        for name, share in shares.items():
            assert run.cds[name] == pytest.approx(np.quantile(cds, share))
        assert (run.dip, run.dip_p) == dip_test(cds)
        assert run.classes == {name: (scope["scope_class"] == name).sum() / 16 for name in CLASSES}
        area = scope.filter(pl.col("cds").is_not_null())["effective_area"]
        assert run.effective_area == pytest.approx(np.median(area.to_numpy()))
        assert run.fvu == open_run(path).manifest.fit.fvu


def test_a_sweeps_directory_stands_for_its_blocks(place, runs):
    assert [run.path for run in compare_runs([place / "sweep"]).runs] == [str(path) for path in runs]


def test_blocks_of_one_model_are_called_by_their_block_and_are_like_with_like(runs):
    comparison = compare_runs(runs)
    assert [run.label for run in comparison.runs] == ["block 0", "block 2"]
    assert [each.name for each in comparison.differences] == ["block", "its weights"]
    assert besides_repeatability(comparison) == []
    assert in_block_order(comparison.runs)
    assert not in_block_order(comparison.runs[::-1])


@pytest.mark.parametrize(
    ("manifest", "label", "warning"),
    [
        ({"options.shift": 1}, "shift 1", r"Not the same shift \(2, 1\): a map has farther to go"),
        ({"options.top_images": 8}, "top_images 8", r"Not the same top_images \(4, 8\)"),
        ({"options.resize": "crop"}, "resize crop", "Not the same resize .*other pictures"),
        ({"options.later": 1}, "later 1", r"Not the same later \(not stated, 1\)\.$"),
        ({"options.seed": 1}, "seed 1", None),
        ({"images.ids_sha256": "f" * 64, "images.source": "/x/other"}, "other", "Not the same images"),
        ({"images.skipped": [{"index": 3, "id": "3", "reason": "broken"}]}, "again", "Not the same images"),
        ({"model.grid": 8}, "again", "Not the same grid .6, 8 patches a side"),
        ({"model.precision": "bf16"}, "again", "Not the same precision"),
        ({"fit.l0": 0.5}, "again", "Sparse codes beside dense ones"),
        ({"fit.note": None, "fit.fvu": 0.9}, "again", "The SAE does not fit in again"),
        ({"model.name": "/x/clip"}, "clip", None),
        ({"model.reads": "neurons"}, "block 0 neurons", None),
    ],
)
def test_what_differs_names_the_run_and_is_warned_of(runs, tmp_path, manifest, label, warning):
    other = changed(runs[0], tmp_path / "again", manifest=manifest)
    comparison = compare_runs([runs[0], other])
    first, second = (run.label for run in comparison.runs)
    assert second == label != first
    if warning is None:
        assert besides_repeatability(comparison) == []
    else:
        (line,) = besides_repeatability(comparison)
        assert re.search(warning, line)


def test_repetitions_are_called_by_their_place_and_said_to_be_repetitions(runs, tmp_path):
    comparison = compare_runs([runs[0], changed(runs[0], tmp_path / "again")])
    assert [run.label for run in comparison.runs] == ["scope", "again"]
    assert comparison.differences == []
    assert "repetitions of one measurement" in write_comparison(comparison, tmp_path / "page").read_text()


def test_classes_and_calibrated_scores(runs, tmp_path):
    classed = with_classes(runs[0], tmp_path / "classed")
    comparison = compare_runs([classed, runs[1]])
    scope = pl.read_parquet(classed / "scope.parquet")
    run = comparison.runs[0]
    assert tuple(run.classes) == CLASSES
    assert run.classes == {name: (scope["scope_class"] == name).sum() / scope.height for name in CLASSES}
    calibrated = scope["cds_calibrated"].drop_nulls().to_numpy()
    assert run.calibrated["median"] == pytest.approx(np.median(calibrated))
    assert "calibrated" in write_comparison(comparison, tmp_path / "page").read_text()


def test_classes_by_different_rules_are_not_laid_side_by_side(runs, tmp_path, capsys):
    older = changed(runs[1], tmp_path / "older run", manifest={"rule_version": 1, "options.rules": "thresholds"})
    comparison = compare_runs([runs[0], older])
    (line,) = besides_repeatability(comparison)
    assert line == comparison.warnings[0]
    assert line.startswith("Judged by different rules: block 0 by posterior; block 2 by thresholds.")
    assert f"`infoscope judge '{older}'` first" in line
    page = write_comparison(comparison, tmp_path / "page").read_text()
    assert "Share of each scope class" not in page
    assert "Share of all features in each scope class" not in page
    assert main(["compare", str(runs[0]), str(older)]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert words.startswith("not like with like: Judged by different rules")
    assert words.count("Judged by different rules") == 1
    assert "scope class" not in words
    numbers = document(capsys, ["compare", str(runs[0]), str(older)])["result"]["runs"]
    assert [run["rule_version"] for run in numbers] == [RULE_VERSIONS["posterior"], 1]


def test_each_class_stands_with_its_expected_false_share(runs, tmp_path, capsys):
    posterior = {"posterior_local": pl.lit(0.96), "scope_class": pl.lit("local")}
    alike = {"class_even": pl.lit("local"), "class_odd": pl.lit("local")}
    one = changed(runs[0], tmp_path / "one", columns=posterior | alike)
    comparison = compare_runs([one, runs[1]])
    assert comparison.runs[0].expected_false == {"local": pytest.approx(0.04)}
    assert "<td>100.0 % <small>(4.0 %)</small></td>" in write_comparison(comparison, tmp_path / "page").read_text()
    assert main(["compare", str(one), str(runs[1])]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert f"expected false of {comparison.runs[0].label}: local 4.0%" in words


def test_the_page_and_the_json_say_the_same(runs, tmp_path, capsys):
    assert main(["compare", *map(str, runs), "--out", f"{tmp_path}/page"]) == 0
    out = capsys.readouterr().out
    assert f"page: {tmp_path}/page/index.html" in out
    stored = json.loads((tmp_path / "page" / "comparison.json").read_text())
    assert document(capsys, ["compare", *map(str, runs)])["result"] == stored
    page = (tmp_path / "page" / "index.html").read_text()
    for run in stored["runs"]:
        for place in (page, out):
            assert run["label"] in place
            assert f"{run['cds']['median']:.3f}" in place
    assert page.count("<svg") == 2 + (stored["runs"][0]["classes"] is not None)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"|http-equiv', "", page)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one"], "a comparison needs two runs or more"),
        (["one", "one"], "is named twice"),
        (["one", "no/such/run"], "no such run directory: no/such/run"),
    ],
)
def test_what_cannot_be_compared_is_one_line(runs, capsys, arguments, message):
    named = [str(runs[0]) if word == "one" else word for word in arguments]
    assert main(["compare", *named]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_a_run_without_a_scored_feature_is_left_out_of_the_spectra(runs, tmp_path):
    empty = changed(runs[0], tmp_path / "again", columns={"cds": pl.lit(None, pl.Float64)})
    comparison = compare_runs([empty, runs[1]])
    assert comparison.runs[0].cds == {}
    assert comparison.runs[0].modes is None
    page = write_comparison(comparison, tmp_path / "page").read_text()
    assert page.count("<svg") == 1 + (comparison.runs[0].classes is not None)
    with pytest.raises(InfoscopeError, match="two runs or more"):
        compare_runs([empty])


FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-logging=stderr"]
FRAME = """<!doctype html><title>frame</title>
<script>window.onmessage = (event) => { document.body.textContent = event.data; };</script>
<body><iframe src="measured.html" width="WIDTH" height="900" style="border: 0"></iframe></body>
"""
MEASURE = """
<script>
window.onload = () => parent.postMessage(JSON.stringify({
  scroll: document.documentElement.scrollWidth,
  figures: document.querySelectorAll("figure svg").length,
  text: Math.min(...[...document.querySelectorAll("svg text")].map(text => text.getBoundingClientRect().height)),
}), "*");
</script>
"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page with")
@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_fits_the_screen_and_the_console_is_silent(runs, tmp_path, width):
    long = "a-name-without-a-place-to-break-" * 6
    several = [with_classes(runs[0], tmp_path / "0"), with_classes(runs[1], tmp_path / "1", seed=1)]
    several.append(changed(several[0], tmp_path / "2", manifest={"model.name": f"models/of/{long}", "model.block": 1}))
    page = write_comparison(compare_runs(several), tmp_path / "page").read_text(encoding="utf-8")
    # The page's policy lets no script run; this test's own is added to it, and all else in it stays.
    policy = "default-src &#39;none&#39;;"
    assert policy in page
    measured = page.replace(policy, f"{policy} script-src 'unsafe-inline';").replace("</body>", f"{MEASURE}</body>")
    (tmp_path / "measured.html").write_text(measured, encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    browser = subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            "--window-size=1600,1000",
            "--virtual-time-budget=5000",
            "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}",
            (tmp_path / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in browser.stderr
    found = json.loads(re.search(r"<body>(.*)</body>", browser.stdout, re.DOTALL)[1])
    assert found["scroll"] <= width
    assert found["figures"] == 2
    assert found["text"] > 7
