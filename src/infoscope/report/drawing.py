"""What all charts share: ink, size, and how one becomes SVG."""

from __future__ import annotations

import io
import re
from html import escape
from typing import Any

import altair as alt

INK, QUIET = "#22262a", "#667078"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
WIDTH, HEIGHT = 460, 330


def chart_of(values: list[dict[str, Any]]) -> alt.Chart:
    """A chart of these rows."""
    return alt.Chart({"values": values})


def svg_of(chart: alt.LayerChart, description: str, height: int = HEIGHT) -> str:
    """The chart as an SVG element that scales with the page and is named for screen readers."""
    fit = alt.AutoSizeParams(type="fit", contains="padding")
    sized = chart.properties(width=WIDTH, height=height, padding=2, autosize=fit)
    styled = sized.configure(background="transparent", font=FONT)
    styled = styled.configure_view(stroke=None).configure_axis(
        labelFontSize=12,
        titleFontSize=12,
        titleFontWeight="normal",
        titleColor=INK,
        labelColor=QUIET,
        domainColor="#9aa2a8",
        tickColor="#9aa2a8",
        gridColor="#e9ecee",
        labelFlush=False,
    )
    box, content = bare_svg(styled)
    # Fixed size attributes would win over the page's width.
    return f'<svg role="img" aria-label="{escape(description)}" viewBox="{box}">{content}'


def bare_svg(chart: alt.TopLevelMixin) -> tuple[str, str]:
    """A chart as SVG without the opening tag: its view box, and what follows that tag.

    What the renderer says of each mark for screen readers is left out: a chart is described as a whole.
    """
    file = io.StringIO()
    chart.save(file, format="svg")
    drawing = file.getvalue()
    box = re.search(r'viewBox="([\d. ]+)"', drawing)
    if box is None:
        raise RuntimeError("the renderer gave an SVG without a viewBox")
    content = re.sub(r"^.*?<svg[^>]*>", "", drawing, count=1, flags=re.DOTALL)
    return box[1], re.sub(r' (?:role|aria-[a-z]+|class)="[^"]*"', "", content)
