"""Files at print size: how large they are, what they hold, and that they are the same each time."""

import re
from xml.etree import ElementTree

import altair as alt
import pytest
from PIL import Image

from infoscope.cli.main import main
from infoscope.errors import InfoscopeError
from infoscope.views.figures.figure import figure
from infoscope.views.figures.paper import LABEL, TITLE, save_figure, steady_pdf

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def charts(run):
    return {kind: figure(run, kind) for kind in ("histogram", "scatter", "gallery", "shift", "removal")}


@pytest.fixture(scope="module")
def drawings(charts, tmp_path_factory):
    """Every figure as SVG, once."""
    folder = tmp_path_factory.mktemp("drawings")
    return {kind: save_figure(chart, folder / f"{kind}.svg") for kind, chart in charts.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["histogram", "scatter", "gallery", "shift", "removal"])
def test_an_svg_is_as_wide_as_a_column_with_letters_one_can_read(drawings, charts, kind):
    root = ElementTree.parse(drawings[kind]).getroot()
    assert float(root.get("width").removesuffix("in")) == pytest.approx(3.25, abs=0.05)
    scale = float(root.get("viewBox").split()[2]) / float(root.get("width").removesuffix("in"))
    assert scale == pytest.approx(96, abs=0.1)
    letters = {round(float(text.get("font-size").removesuffix("px")) * 0.75, 2) for text in root.iter(f"{SVG}text")}
    assert letters <= {LABEL, TITLE}
    families = {text.get("font-family") for text in root.iter(f"{SVG}text")}
    assert all(family.startswith("Liberation Sans, Arial") for family in families)
    assert root.get("aria-label") == charts[kind].description
    assert root.find(f"{SVG}rect").get("fill") == "#ffffff"
    text = drawings[kind].read_text()
    assert not re.findall(r'(?:href|src|url)="?\(?(?!data:|#)[a-z]+:', text.replace("http://www.w3.org", ""))


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_same_figure_is_the_same_file(charts, tmp_path, ending):
    first, second = (save_figure(charts["shift"], tmp_path / f"{name}.{ending}").read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_pdf_is_as_large_as_in_print_and_holds_its_letters(charts, tmp_path):
    content = save_figure(charts["gallery"], tmp_path / "gallery.pdf").read_bytes()
    box = [float(number) for number in re.search(rb"/MediaBox \[([\d. ]+)\]", content)[1].split()]
    assert box[2] == pytest.approx(3.25 * 72, abs=0.1)
    assert b"+LiberationSans" in content
    assert b"/FontFile2" in content
    # Photographs go in as they are.
    assert content.count(b"/DCTDecode") == 6 * 2 * 2


def test_a_png_says_how_large_it_is_in_print(charts, tmp_path):
    with Image.open(save_figure(charts["histogram"], tmp_path / "histogram.png")) as picture:
        assert picture.width == pytest.approx(3.25 * 300, abs=1)
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_lists_of_resources_are_put_in_order_and_nothing_else():
    content = b"    /Font <<\n      /f1 2 0 R\n      /f0 1 0 R\n    >>\n  /Contents 6 0 R\n>>\n  /Zoo 9 0 R\n"
    assert steady_pdf(content) == content.replace(
        b"      /f1 2 0 R\n      /f0 1 0 R\n", b"      /f0 1 0 R\n      /f1 2 0 R\n"
    )


def test_a_chart_of_ones_own_is_saved_too(tmp_path):
    chart = alt.Chart({"values": [{"x": 1}]}).mark_point().encode(x="x:Q")
    assert 'aria-label=""' in save_figure(chart, tmp_path / "own.svg").read_text()
    with pytest.raises(InfoscopeError, match=r"cannot write .*own.gif: give --out a name that ends in"):
        save_figure(chart, tmp_path / "own.gif")


def test_the_command_writes_the_file_and_says_what_it_shows(run, tmp_path, capsys):
    out = tmp_path / "figure.svg"
    words = ["figure", str(run.path), "gallery", "--features", "7,8", "--pairs", "1", "--width", "2", "--out", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == str(out)
    assert printed[1].startswith("2 features, those named, with 1 top image each: both crops")
    assert out.read_text().count("<image") == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["histogram", "--out", "figure.jpg"], "give --out a name that ends in .pdf, .svg or .png"),
        (["histogram", "--out", "a.svg", "--width", "1"], "--width 1.0 is out of range: choose 2 to 14 inches"),
        (["gallery", "--out", "a.svg", "--each", "0"], "--each 0 is out of range: choose 1 or more"),
        (["gallery", "--out", "a.svg", "--images", "gone"], "no such folder of images: gone"),
    ],
)
def test_the_command_refuses_in_a_line(run, capsys, words, message):
    assert main(["figure", str(run.path), *words]) == 2
    assert message in capsys.readouterr().err
