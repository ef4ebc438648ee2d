"""What the figures show, read from the charts themselves, and what they say where the run lacks it."""

import base64
import io
import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.measurement.result import Scope
from infoscope.runtime.run import MAPS_FILE
from infoscope.views.figures.figure import figure
from infoscope.views.figures.paper import caption_of
from infoscope.views.report.charts import INK, ON_LIGHT


def layers(chart):
    """Each layer's mark, rows and encoding, with the data that layers share."""
    document = chart.to_dict()
    found = []

    def walk(node, rows):
        rows = document["datasets"][node["data"]["name"]] if "data" in node else rows
        for child in (*node.get("layer", ()), *node.get("hconcat", ()), *node.get("vconcat", ())):
            walk(child, rows)
        if "mark" in node:
            mark = node["mark"] if isinstance(node["mark"], dict) else {"type": node["mark"]}
            found.append((mark, rows, node.get("encoding", {})))

    walk(document, [])
    return found


def of_mark(chart, mark):
    return [(kind, rows, encoding) for kind, rows, encoding in layers(chart) if kind["type"] == mark]


def test_the_histogram_has_every_scored_feature_in_its_class(run):
    chart = figure(run, "histogram")
    ((_, rows, encoding),) = of_mark(chart, "bar")
    heights = pl.DataFrame(rows).group_by("group").agg((pl.col("high") - pl.col("low")).sum())
    scored = run.scope.filter(pl.col("cds").is_not_null())
    assert dict(heights.iter_rows()) == dict(scored["scope_class"].value_counts().iter_rows())
    scale = encoding["color"]["scale"]
    assert [ON_LIGHT[name] for name in scale["domain"]] == scale["range"]
    assert f"threshold {run.partition['threshold']:.3f}" in json.dumps(chart.to_dict())
    assert "59 scored features of 60" in caption_of(chart)
    assert "4 images, 4 top images a feature, shift 2" in caption_of(chart)


def test_the_histogram_by_side_parts_at_the_threshold(run):
    ((_, rows, _),) = of_mark(figure(run, "histogram", by="side"), "bar")
    local = sum(row["high"] - row["low"] for row in rows if row["group"] == "low-CDS")
    assert local == run.scope.filter(pl.col("cds") <= run.partition["threshold"]).height


def test_the_scatter_has_any_two_columns(run):
    chart = figure(run, "scatter", x="effective_area", y="cds_calibrated", width=6.75)
    ((_, rows, encoding),) = of_mark(chart, "point")
    drawn = {(row["x"], row["y"]) for row in rows}
    scored = run.scope.filter(pl.col("cds_calibrated").is_not_null())
    wanted = scored.select(pl.col("effective_area", "cds_calibrated").round_sig_figs(5))
    assert drawn == set(wanted.iter_rows())
    assert encoding["x"]["title"] == "effective area (patches)"
    assert "1 feature without one of the two left out" in caption_of(chart)


def test_marks_that_print_on_each_other_are_one_and_rare_classes_lie_on_top(run):
    crowded = pl.concat([run.scope] * 50).with_columns(pl.int_range(pl.len()).cast(pl.UInt32).alias("feature"))
    scope = Scope(crowded, run.top_images, run.path / MAPS_FILE, run.manifest)
    chart = figure(scope, "scatter")
    ((_, rows, _),) = of_mark(chart, "point")
    ((_, once, _),) = of_mark(figure(run, "scatter"), "point")
    assert len(rows) == len(once)
    assert [row["class"] for row in rows][-1] in ("diffuse", "position-bound")
    assert "2,950 features" in caption_of(chart)


def test_the_shift_figure_has_the_medians_of_each_class(run):
    chart = figure(run, "shift")
    ((_, rows, _),) = [found for found in of_mark(chart, "line") if "scope_class" in found[1][0]]
    curve = run.shift_curve.join(run.scope.select("feature", "scope_class"), on="feature").drop_nulls("cds_patches")
    for row in rows:
        values = curve.filter(scope_class=row["scope_class"], shift=row["shift"])["cds_patches"].to_numpy()
        assert row["median"] == pytest.approx(np.median(values), abs=1e-5)
        assert [row["low"], row["high"]] == pytest.approx(np.quantile(values, [0.25, 0.75]), abs=1e-5)
    # What is glued to the crop moves by the shift both ways.
    ((_, glued, _),) = [found for found in of_mark(chart, "line") if "moved" in found[1][0]]
    assert [row["moved"] for row in glued] == pytest.approx([0, 2**0.5, 2 * 2**0.5, 3 * 2**0.5])


def test_removal_shows_scores_intervals_and_the_spread_of_random_groups(run):
    chart = figure(run, "removal", results=("probes/colours",))
    drawn = {(row["name"], row["score"]): row for _, (row,), _ in of_mark(chart, "point")}
    like = "minus random of equal size as global"
    spread = np.std([80.0, 84.0], ddof=1)
    own, random = drawn["minus global", 88.0], drawn[like, 82.0]
    assert [own["low"], own["high"]] == [87.0, 89.0]
    assert [random["low"], random["high"]] == pytest.approx([82 - spread, 82 + spread], abs=1e-4)
    assert own["colour"] == ON_LIGHT["global"]
    assert random["colour"] not in (*ON_LIGHT.values(), INK)
    assert set(drawn) == {("minus global", 88.0), (like, 82.0), ("minus global", 60.0), (like, 52.0)}
    untouched = [rows[0]["score"] for mark, rows, _ in of_mark(chart, "rule") if mark.get("strokeDash")]
    assert untouched == [90.0, 70.0]
    assert "over 2 draws" in caption_of(chart)


@pytest.mark.slow
def test_removal_shows_all_results_of_a_run(run):
    chart = figure(run, "removal")
    panels = chart.to_dict()["vconcat"]
    assert [panel["title"]["text"] for panel in panels] == [
        "classification, colours",
        "zero-shot, some/val",
        "classification, selection, colours",
    ]
    zeroshot = {row["name"]: row for _, rows, _ in of_mark(chart, "point") for row in rows if row.get("score") == 40.0}
    assert (zeroshot["minus global"]["low"], zeroshot["minus global"]["high"]) == (30.0, 45.0)
    (line,) = [rows for mark, rows, encoding in of_mark(chart, "line") if "color" in encoding]
    assert [(row["end"], row["share"], row["score"]) for row in line] == [
        ("highest first", 0.2, 88.0),
        ("highest first", 0.5, 85.0),
        ("lowest first", 0.2, 78.0),
        ("lowest first", 0.5, 60.0),
    ]


def test_a_gallery_shows_both_crops_under_their_maps(run):
    chart = figure(run, "gallery", features=(7,), pairs=2, width=3.25)
    ((_, tiles, _),) = of_mark(chart, "image")
    assert len(tiles) == 4
    pictures = [_decoded(tile["url"]) for tile in tiles[:2]]
    # Patch (3, 3) of the first crop is patch (1, 1) of the second.
    for picture, (row, column) in zip(pictures, ((3, 3), (1, 1)), strict=True):
        cell = picture.shape[0] // 6
        middle = picture[row * cell + 3 : (row + 1) * cell - 3, column * cell + 3 : (column + 1) * cell - 3]
        hue = [int(ON_LIGHT[_class(run, 7)][at : at + 2], 16) for at in (1, 3, 5)]
        assert np.abs(middle.mean((0, 1)) - hue).max() < 40
    assert pictures[0].shape[0] / (300 / 72) == pytest.approx(_side(chart) * 72 / 96, rel=0.05)


def _class(run, feature):
    return run.scope["scope_class"][feature]


def _decoded(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).astype(float)


def _side(chart):
    return of_mark(chart, "image")[0][0]["width"]


def test_a_gallery_takes_the_most_trusted_of_each_class(run):
    texts = [row["text"] for _, rows, _ in of_mark(figure(run, "gallery", each=1), "text") for row in rows]
    assert [text.split(",")[0] for text in texts] == ["local", "diffuse", "position-bound", "global"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("histogram", "has a score to draw: measure more images, or lower --top-images"),
        ("scatter", "no feature of .* has both cds and effective_area"),
        ("shift", "has no shift curve: measure into a new directory with --shift 1,2,3,4"),
        ("gallery", "needs the photographs: no such folder of images: gone/photographs/of/mine; .* --images"),
        ("removal", "has no probes, zero-shot predictions or selections to draw: run `infoscope probe"),
    ],
)
def test_what_a_run_lacks_is_said_in_a_line(bare, kind, message):
    with pytest.raises(InfoscopeError, match=message) as refused:
        figure(bare, kind)
    assert "\n" not in str(refused.value)


def test_what_is_asked_for_must_be_there(run):
    for kind, options, message in (
        ("scatter", {"x": "beauty"}, "has no column beauty: choose of cds, "),
        ("gallery", {"features": (60,)}, "there is no feature 60: choose 0 to 59"),
        ("gallery", {"pairs": 40}, "40 images do not fit into 3.25 inches: lower --pairs"),
        ("removal", {"results": ("nothing",)}, "has no result nothing: choose of probes/colours, zeroshot, "),
        ("removal", {"results": ("colours",)}, "has no result colours: choose of probes/colours"),
    ):
        with pytest.raises(InfoscopeError, match=message):
            figure(run, kind, **options)


def test_a_scope_in_memory_gives_the_same_figure(run):
    scope = Scope(run.scope, run.top_images, run.maps, run.manifest, run.shift_curve)
    for kind in ("histogram", "gallery"):
        assert figure(scope, kind).to_dict() == figure(run, kind).to_dict()
