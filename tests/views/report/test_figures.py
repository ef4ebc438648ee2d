import re
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from infoscope.measurement.summary import Settings
from infoscope.scope.partition import partition
from infoscope.views.report.charts import GLOBAL, LOCAL, area_chart, axis_end, cds_histogram, scale_marks
from infoscope.views.report.outliers import place_chart

SETTINGS = Settings(16, 2, 14, "stretch", 16, 8, "max", "full", "euclidean", "leave-out")
CDS = np.random.default_rng(0).gamma(3.0, 0.04, 500)


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("text")]


def shapes(svg, colour):
    return [element for element in ElementTree.fromstring(svg).iter("path") if element.get("fill") == colour]


def height(path):
    # A bar is drawn as M x,y h w v h h -w Z.
    return float(re.search(r"v(-?[\d.]+)", path.get("d"))[1])


@pytest.fixture(scope="module")
def split():
    return partition(CDS, "value", value=0.15)


@pytest.fixture(scope="module")
def histogram(split):
    return cds_histogram(CDS, split, SETTINGS)


@pytest.fixture(scope="module")
def table():
    area = np.random.default_rng(1).uniform(1, 196, len(CDS))
    return pl.DataFrame({"feature": np.arange(len(CDS)), "cds": CDS, "effective_area": area})


def test_the_bars_hold_every_feature_once_on_its_side_of_the_threshold(histogram):
    local, rest = (sum(height(bar) for bar in shapes(histogram, colour)) for colour in (LOCAL, GLOBAL))
    assert local / (local + rest) == pytest.approx(np.mean(CDS <= 0.15), abs=0.005)
    counts, _ = np.histogram(CDS[CDS <= 0.15], np.arange(0, 1.001, 0.01))
    heights = [height(bar) for bar in shapes(histogram, LOCAL)]
    np.testing.assert_allclose(np.array(heights) / max(heights), counts[counts > 0] / counts.max(), atol=0.01)


@pytest.mark.parametrize("value", [0.15, 0.4])
def test_the_threshold_stands_where_it_is_and_says_what_it_is(value):
    svg = cds_histogram(CDS, partition(CDS, "value", value=value), SETTINGS)
    assert f"threshold {value:.3f} (convention)" in texts(svg)
    dashed = [line for line in ElementTree.fromstring(svg).iter("line") if line.get("stroke-dasharray") == "5,3"]
    x = float(re.match(r"translate\(([\d.]+)", dashed[0].get("transform"))[1])
    # The plot's frame is drawn first, from the axis' 0 to its end.
    width = float(re.search(r'd="M0,0h([\d.]+)', svg)[1])
    assert x / width == pytest.approx(value / axis_end(CDS), abs=0.01)


def test_a_valley_is_called_one():
    generator = np.random.default_rng(0)
    cds = np.concatenate([generator.normal(0.1, 0.02, 300), generator.normal(0.4, 0.02, 300)])
    split = partition(cds)
    assert f"threshold {split.threshold:.3f} (valley)" in texts(cds_histogram(cds, split, SETTINGS))


def test_charts_are_plain_svg_with_text_as_text_and_a_name(histogram, split, table):
    drawing, _ = area_chart(table, table.head(3), table.tail(3), split, SETTINGS)
    for svg in (histogram, drawing):
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert f"{len(CDS)} features" in root.get("aria-label")
        assert root.get("width") is None, "a fixed width would not follow the page"
        names = {name for element in root.iter() for name in element.attrib}
        assert not names & {"id", "href", "clip-path"}, "ids of two charts on one page could meet"
        assert "CDS" in texts(svg)


def test_the_cells_hold_every_scored_feature(split, table):
    svg, most = area_chart(table, table.head(0), table.head(0), split, SETTINGS)
    area_edges = np.geomspace(1, 196, 41)
    cds_edges = np.linspace(0, axis_end(CDS), 41)
    counts, _, _ = np.histogram2d(table["effective_area"], CDS, (area_edges, cds_edges))
    assert most == counts.max()
    cells = [path for path in ElementTree.fromstring(svg).iter("path") if (path.get("fill") or "").startswith("rgb(")]
    assert len(cells) == np.count_nonzero(counts)
    assert not shapes(svg, LOCAL)


def test_the_shown_features_are_marked_and_unscored_ones_left_out(split, table):
    unscored = pl.DataFrame({"feature": [500], "cds": [None], "effective_area": [5.0]}, schema=table.schema)
    svg, most = area_chart(pl.concat([table, unscored]), table.head(5), table.tail(7), split, SETTINGS)
    assert (len(shapes(svg, LOCAL)), len(shapes(svg, GLOBAL))) == (5, 7)
    assert area_chart(table, table.head(5), table.tail(7), split, SETTINGS) == (svg, most)


def test_the_outermost_values_are_drawn():
    table = pl.DataFrame({"feature": [0, 1], "cds": [0.0, 1.0], "effective_area": [1.0 - 1e-12, 196.0 + 1e-9]})
    split = partition(table["cds"].to_numpy())
    svg, most = area_chart(table, table.head(1), table.tail(1), split, SETTINGS)
    cells = [path for path in ElementTree.fromstring(svg).iter("path") if (path.get("fill") or "").startswith("rgb(")]
    assert (len(cells), most) == (2, 1)
    assert len(shapes(cds_histogram(table["cds"].to_numpy(), split, SETTINGS), GLOBAL)) == 1


@pytest.mark.parametrize(("largest", "end"), [(0.0, 0.45), (0.1, 0.45), (0.46, 0.5), (0.5, 0.55), (1.0, 1.0)])
def test_the_axis_ends_past_every_score(largest, end):
    assert axis_end(np.array([0.0, largest])) == pytest.approx(end)


def test_marks_of_scale_stay_on_the_axis():
    assert [letter for letter, _ in scale_marks(SETTINGS, 0.45)] == ["a", "b"]
    assert [letter for letter, _ in scale_marks(SETTINGS, 0.2)] == ["a"]


def test_a_chart_with_a_gradient_is_the_same_each_time_and_its_names_are_its_own():
    def drawn(share):
        places = pl.DataFrame({"block": [3], "patch": [1], "outliers": [share]})
        return place_chart(places, 3, 4, 10, "outlier tokens")

    first, other, again = drawn(2), drawn(5), drawn(2)
    assert first == again
    named = [set(re.findall(r"gradient-[\w-]+", svg)) for svg in (first, other)]
    assert all(named)
    assert named[0].isdisjoint(named[1])
