"""What all charts share: ink, size, and how one becomes SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import altair as alt
import numpy as np
from jaxtyping import Float64

INK, QUIET = "#22262a", "#667078"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
WIDTH, HEIGHT = 460, 330


def chart_of(values: list[dict[str, Any]]) -> alt.Chart:
    """A chart of these rows."""
    return alt.Chart({"values": values})


def stacked_bars(
    values: Float64[np.ndarray, " _"],
    groups: Sequence[str],
    order: Sequence[str],
    edges: Float64[np.ndarray, " edge"],
) -> list[dict[str, Any]]:
    """Rows of a stacked histogram: where each group's part of a bar begins and ends.

    Args:
        values: what is counted.
        groups: of which group each is.
        order: the groups from the bottom up.
        edges: of the bars, ascending.

    Example:
        >>> rows = stacked_bars(np.array([0.1, 0.2, 0.9]), ["a", "b", "a"], ["a", "b"], np.array([0.0, 0.5, 1.0]))
        >>> [(row["from"], row["group"], row["low"], row["high"]) for row in rows]
        [(0.0, 'a', 0, 1), (0.5, 'a', 0, 1), (0.0, 'b', 1, 2)]
    """
    below = np.zeros(len(edges) - 1, np.int64)
    names = np.array(groups, dtype=object)
    rows = []
    for group in order:
        counts, _ = np.histogram(values[names == group], edges)
        for place in np.flatnonzero(counts).tolist():
            low, high = int(below[place]), int(below[place] + counts[place])
            rows.append({"from": edges[place], "to": edges[place + 1], "low": low, "high": high, "group": group})
        below += counts
    return rows


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
