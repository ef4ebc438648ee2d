"""The look of figures for papers."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import altair as alt

from infoscope.errors import InfoscopeError
from infoscope.measurement.summary import settings_of
from infoscope.runtime.atomic import atomic_write
from infoscope.runtime.hub import short_name
from infoscope.runtime.run import Run
from infoscope.views.report.charts import INK, bare_svg


def measured(run: Run) -> str:
    """What a run was measured with, and on what: a clause for a caption."""
    manifest, settings = run.manifest, settings_of(run)
    return (
        f"{short_name(manifest.dictionary.name)}, {short_name(manifest.model.name)} block {manifest.model.block}, "
        f"{manifest.images.read:,} images, {settings.top_images} top images a feature, shift {settings.shift}"
    )


def plural(count: int, noun: str) -> str:
    """A number and its noun.

    Example:
        >>> plural(1, "feature"), plural(1200, "feature")
        ('1 feature', '1,200 features')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


FORMATS = ("pdf", "svg", "png")
INCH, POINT = 96.0, 96.0 / 72.0
# The renderer comes with the first, so that letters are the same everywhere; it is as wide as the next two.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
# Points. Journals ask for 6 to 9 at print size. There is one weight: the PDF's maker orders several fonts at random.
TITLE, LABEL = 8.0, 7.0
# Pixels to an inch of a PNG: what printers ask of photographs.
DENSITY = 300
# Inches, of a chart that is no gallery.
HIGHEST = 3.0
# Pixels around a chart.
MARGIN = 2.0
AXIS, GRID = "#7a838a", "#e4e8eb"

Chart = TypeVar("Chart", bound=alt.TopLevelMixin)


def points(size: float) -> float:
    """Points as pixels.

    Example:
        >>> points(9.0)
        12.0
    """
    return size * POINT


def height_of(width: float, share: float) -> float:
    """The height of a chart, in inches: a share of its width, and no more than leaves room for text on a page.

    Example:
        >>> height_of(3.25, 0.8), height_of(6.75, 0.8)
        (2.6, 3.0)
    """
    return min(width * share, HIGHEST)


def fitted(chart: alt.LayerChart, width: float, height: float) -> alt.LayerChart:
    """A chart of this width and height in inches, axes and legend included."""
    fit = alt.AutoSizeParams(type="fit", contains="padding")
    sized: alt.LayerChart = chart.properties(width=width * INCH, height=height * INCH, padding=MARGIN, autosize=fit)
    return sized


def printed(chart: Chart, caption: str) -> Chart:
    """A chart in the type and ink of a paper, with what it shows as its description."""
    letters = {"labelFontSize": points(LABEL), "titleFontSize": points(TITLE), "titleFontWeight": "normal"}
    styled: Any = chart
    styled = styled.properties(description=caption).configure(background="#ffffff", font=FONT)
    styled = styled.configure_view(stroke=None).configure_axis(
        **letters,
        titleColor=INK,
        labelColor=INK,
        domainColor=AXIS,
        tickColor=AXIS,
        gridColor=GRID,
        gridWidth=0.5,
        domainWidth=0.75,
        tickWidth=0.75,
        tickSize=3,
        titlePadding=4,
        labelPadding=2,
        labelFlush=False,
    )
    styled = styled.configure_legend(
        **letters,
        labelColor=INK,
        titleColor=INK,
        orient="top",
        direction="horizontal",
        offset=4,
        columnPadding=10,
        symbolSize=36,
        symbolStrokeWidth=1,
        symbolOpacity=1,
        labelLimit=0,
    )
    drawn: Chart = styled.configure_title(
        fontSize=points(TITLE), fontWeight="normal", color=INK, anchor="start", frame="group", offset=4
    )
    return drawn


def check_out(path: Path) -> str:
    """The format that a file's name asks for.

    Raises:
        InfoscopeError: it is not one of the three.

    Example:
        >>> check_out(Path("figure.PDF"))
        'pdf'
        >>> check_out(Path("figure.jpg"))
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: cannot write figure.jpg: give --out a name that ends in .pdf, .svg or .png
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InfoscopeError(f"cannot write {path}: give --out a name that ends in .pdf, .svg or .png")
    return kind


def save_figure(chart: alt.TopLevelMixin, path: Path | str) -> Path:
    """Write a figure as PDF, SVG or PNG (300 pixels to an inch), by the name's ending, at its size in print.

    The same chart gives the same bytes with the same versions of altair and vl-convert; a PDF as long as one font has
    all its letters, since those of several come in any order. A PDF holds the letters it uses; an SVG names its fonts.

    Args:
        chart: what `infoscope.figure` made.
        path: the file.

    Returns:
        The file.

    Raises:
        InfoscopeError: the name ends in something else, or the file cannot be written.
    """
    path = Path(path)
    kind = check_out(path)
    drawing = svg_file(chart) if kind == "svg" else svg_file(chart, unit="pt")
    content = drawing.encode("utf-8")
    if kind != "svg":
        import vl_convert

        if kind == "pdf":
            content = steady_pdf(vl_convert.svg_to_pdf(drawing))
        else:
            content = vl_convert.svg_to_png(drawing, ppi=DENSITY)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return path


def svg_file(chart: alt.TopLevelMixin, unit: str = "in") -> str:
    """A chart as the text of an SVG file.

    Args:
        chart: the chart.
        unit: ``in`` states its size in inches; ``pt`` as a bare number of points, as the other formats' makers take it.
    """
    box, content = bare_svg(chart)
    _, _, width, height = (float(number) for number in box.split())
    factor, suffix = (1 / INCH, "in") if unit == "in" else (1 / POINT, "")
    description = escape(caption_of(chart))
    size = [f"{length * factor:.4f}".rstrip("0").rstrip(".") + suffix for length in (width, height)]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{description}" width="{size[0]}" height="{size[1]}" viewBox="{box}">{content}'
    )


def caption_of(chart: alt.TopLevelMixin) -> str:
    """What a figure shows, in sentences that can serve as a caption; empty where a chart has none."""
    description = getattr(chart, "description", "")
    return description if isinstance(description, str) else ""


def steady_pdf(content: bytes) -> bytes:
    r"""Sort a PDF's lists of resources, which its maker writes in any order, so that one figure gives one file.

    Example:
        >>> steady_pdf(b"<<\n  /x1 8 0 R\n  /x0 7 0 R\n>>")
        b'<<\n  /x0 7 0 R\n  /x1 8 0 R\n>>'
    """
    # The lines move within their object, whose length stays, so that the table of offsets holds.
    return re.sub(
        rb"(?:[ ]+/[a-zA-Z]+\d+ \d+ 0 R\n){2,}",
        lambda found: b"".join(sorted(found[0].splitlines(keepends=True))),
        content,
    )
