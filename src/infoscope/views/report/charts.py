"""Charts of the report: colours, labels, axes and figures."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any, Literal

import altair as alt
import numpy as np
import polars as pl
from jaxtyping import Float64

from infoscope.measurement.summary import Settings
from infoscope.scope.classes import CLASSES
from infoscope.scope.modes import estimate_density
from infoscope.scope.partition import Partition

# `site.css` has the same ones, as --c-local and so on; a test holds them together.
ON_LIGHT: dict[str, str] = dict(
    zip(CLASSES, ("#0b63a5", "#c98200", "#9f7be8", "#a94400", "#259d76", "#767f8e", "#4a5158"), strict=True)
)
ON_DARK = dict(zip(CLASSES, ("#5a9fe0", "#f3cd6b", "#d9cbff", "#e0703a", "#acf6dd", "#666b75", "#98a2aa"), strict=True))
LOCAL, GLOBAL = ON_LIGHT["local"], ON_LIGHT["global"]
# The sides of the threshold and the two ends of CDS: other features than the classes', never coloured beside them.
LOW_CDS, HIGH_CDS = LOCAL, GLOBAL
# A square with a hole, so that it is an outline where marks are filled.
_FRAME = "M-1,-1H1V1H-1ZM-0.6,-0.6V0.6H0.6V-0.6Z"
# The shapes that the report draws, by Vega's names or as paths. Undefined is a ring.
SHAPES: dict[str, str] = dict(
    zip(CLASSES, ("circle", "square", "triangle-up", "diamond", "cross", _FRAME, "circle"), strict=True)
)

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
    return box[1], _name_gradients(re.sub(r' (?:role|aria-[a-z]+|class)="[^"]*"', "", content))


def _name_gradients(content: str) -> str:
    """A drawing whose gradients have names of their own.

    The renderer numbers them through the whole process, so that one chart drawn twice would differ. Named by the
    drawing's content, they are the same each time, and others in each chart of a page.

    Example:
        >>> drawing = "<a id='gradient_{0}'/><b fill='url(#gradient_{0})'/>"
        >>> _name_gradients(drawing.format(3)) == _name_gradients(drawing.format(8))
        True
    """
    pattern = r"\bgradient_\d+\b"
    names = list(dict.fromkeys(re.findall(pattern, content)))
    digest = sha256(re.sub(pattern, "", content).encode()).hexdigest()[:8]
    return re.sub(pattern, lambda name: f"gradient-{digest}-{names.index(name[0])}", content)


# Our choices: bars of 0.01 show shape without drawing noise; an axis never so short that a narrow spectrum looks broad.
BAR = 0.01
LEAST_RANGE = 0.45


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
    rows, ends = [], edges.tolist()
    for group in order:
        counts, _ = np.histogram(values[names == group], edges)
        for place in np.flatnonzero(counts).tolist():
            low, high = int(below[place]), int(below[place] + counts[place])
            rows.append({"from": ends[place], "to": ends[place + 1], "low": low, "high": high, "group": group})
        below += counts
    return rows


def axis_end(cds: Float64[np.ndarray, " feature"]) -> float:
    """The end of the CDS axis: past every score, and never so near that a narrow spectrum looks broad."""
    return min(1.0, max(LEAST_RANGE, float(np.ceil(cds.max(initial=0.0) / 0.05 + 1e-9) * 0.05)))


# Our choices: 40 x 40 cells and a curve of 200 points show shape without drawing noise.
BINS = 40
POINTS = 200
# Pixels, of what is written into a chart.
LETTERS = 12.0

Values = Float64[np.ndarray, " feature"]


def cds_histogram(cds: Values, partition: Partition, settings: Settings) -> str:
    """Histogram of CDS with the threshold and the density its modes are counted on, as SVG text.

    Args:
        cds: scores, ``[feature]``, without nulls; at least one.
        partition: the split into low-CDS and high-CDS features.
        settings: for the marks of scale on the axis.
    """
    upper = axis_end(cds)
    sides = np.where(cds <= partition.threshold, "low-CDS", "high-CDS").tolist()
    layers = spectrum_layers(cds, sides, {"low-CDS": LOW_CDS, "high-CDS": HIGH_CDS}, partition)
    layers += [
        _mark(letter, at, alt.Scale(domain=[0, upper], nice=False)) for letter, at in scale_marks(settings, upper)
    ]
    return svg_of(
        alt.LayerChart(layer=layers),
        f"Histogram of CDS over {len(cds)} features with the threshold {partition.threshold:.3f} ({partition.kind}).",
    )


# Our choices: bars of 0.05, up to one and a half times what unrelated pictures give.
CALIBRATED_BAR, CALIBRATED_END = 0.05, 1.5


def calibrated_histogram(scored: pl.DataFrame) -> str:
    """Histogram of the calibrated score, classes stacked, with a line where unrelated pictures lie, as SVG text.

    Args:
        scored: rows of ``scope.parquet`` with a calibrated score; at least one.
    """
    edges = np.linspace(0, CALIBRATED_END, round(CALIBRATED_END / CALIBRATED_BAR) + 1)
    # What lies beyond the axis is counted at its end.
    values = np.minimum(scored["cds_calibrated"].to_numpy(), CALIBRATED_END)
    bars = stacked_bars(values, scored["scope_class"].to_list(), CLASSES, edges)
    x_scale = alt.Scale(domain=[0, CALIBRATED_END], nice=False)
    unrelated = chart_of([{"at": 1.0}]).encode(x=alt.X("at:Q", scale=x_scale))
    layers: list[alt.Chart | alt.LayerChart] = [
        _bar_layer(bars, "calibrated score", x_scale, alt.Axis(tickCount=6, grid=False), ON_LIGHT),
        unrelated.mark_rule(color=INK, strokeWidth=1.25, strokeDash=[5, 3], aria=False),
        unrelated.mark_text(text="unrelated pictures", fontSize=12, color=INK, align="left", dx=5, aria=False).encode(
            y=alt.value(8)
        ),
    ]
    return svg_of(
        alt.LayerChart(layer=layers), f"Histogram of the calibrated score over {scored.height} features, by class."
    )


def spectrum_layers(
    cds: Values,
    groups: Sequence[str],
    colours: Mapping[Any, str],
    partition: Partition,
    *,
    letters: float = LETTERS,
    legend: alt.Legend | None = None,
) -> list[alt.Chart | alt.LayerChart]:
    """The layers of a histogram of CDS: stacked bars, the density that modes are counted on, the threshold.

    Args:
        cds: scores, ``[feature]``, without nulls; at least one.
        groups: what each bar is divided by, one a feature.
        colours: by group, from the bottom of a bar up.
        partition: for the threshold.
        letters: size of the threshold's label, in pixels.
        legend: of the colours; None for none.
    """
    upper = axis_end(cds)
    edges = np.linspace(0, upper, round(upper / BAR) + 1)
    x_scale = alt.Scale(domain=[0, upper], nice=False)
    x_axis = alt.Axis(tickCount=6, format=".1f", grid=False)
    return [
        _bar_layer(stacked_bars(cds, groups, list(colours), edges), "CDS", x_scale, x_axis, colours, legend),
        chart_of(_density_line(cds, upper))
        .mark_line(color=INK, strokeWidth=1.25, opacity=0.75, aria=False)
        .encode(x=alt.X("at:Q", scale=x_scale), y="height:Q"),
        *_rule(partition.threshold, upper, f"threshold {partition.threshold:.3f} ({partition.kind})", "x", letters),
    ]


def _bar_layer(
    bars: list[dict[str, Any]],
    title: str,
    scale: alt.Scale,
    axis: alt.Axis,
    colours: Mapping[Any, str],
    legend: alt.Legend | None = None,
) -> alt.Chart:
    """A stacked histogram of features, of the rows that `stacked_bars` gives."""
    palette = alt.Scale(domain=list(colours), range=list(colours.values()))
    layer: alt.Chart = (
        chart_of(bars)
        .mark_bar(binSpacing=0.5, opacity=0.85, aria=False)
        .encode(
            x=alt.X("from:Q", title=title, scale=scale, axis=axis),
            x2="to:Q",
            y=alt.Y("low:Q", title="features", axis=alt.Axis(tickMinStep=1, tickCount=5, format="d")),
            y2="high:Q",
            color=alt.Color("group:N", scale=palette, legend=legend, title=None),
        )
    )
    return layer


def _density_line(cds: Values, upper: float) -> list[dict[str, float]]:
    """The kernel density that the partition looks at, as features a bar."""
    density = estimate_density(cds)
    at = np.linspace(0, upper, POINTS)
    height = np.interp(at, density.x, density.value) * len(cds) * BAR
    return [{"at": x, "height": y} for x, y in zip(at.round(4).tolist(), height.round(3).tolist(), strict=True)]


def scale_marks(settings: Settings, upper: float) -> list[tuple[str, float]]:
    """Letters and places of the marks of scale on the CDS axis: a, a position-glued map; b, two unrelated ones."""
    marks = [("a", settings.position_glued), ("b", settings.unrelated)]
    return [(letter, at) for letter, at in marks if at is not None and at <= upper]


def area_chart(
    scope: pl.DataFrame,
    lowest: pl.DataFrame,
    highest: pl.DataFrame,
    partition: Partition,
    settings: Settings,
) -> tuple[str, int]:
    """CDS against effective area: all scored features counted in cells, the shown ones as points.

    Args:
        scope: the scope table.
        lowest: the features of the lowest CDS that are shown below, rows of the table.
        highest: those of the highest.
        partition: the split into low-CDS and high-CDS features, for the threshold.
        settings: for the size of the overlap.

    Returns:
        SVG text, and the number of features in the fullest cell.
    """
    scored = scope.filter(pl.col("cds").is_not_null() & pl.col("effective_area").is_not_null())
    cds, area = scored["cds"].to_numpy(), scored["effective_area"].to_numpy()
    upper = axis_end(cds)
    cells = _count_cells(area, cds, settings.cells, upper)
    most = max((cell["count"] for cell in cells), default=0)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick < 0.8 * settings.cells]
    x_scale = alt.Scale(type="log", domain=[1, settings.cells], nice=False)
    x_axis = alt.Axis(values=[*ticks, settings.cells], format="d", grid=False)
    y_scale = alt.Scale(domain=[0, upper], nice=False)
    grey = alt.Scale(type="log", domain=[1, max(most, 2)], range=["#dfe3e6", "#3d454c"])
    layers: list[alt.Chart | alt.LayerChart] = [
        chart_of([{"from": settings.broad_area, "to": settings.cells}])
        .mark_rect(fill="#f3ead6", opacity=0.6, aria=False)
        .encode(x=alt.X("from:Q", scale=x_scale, axis=x_axis, title="effective area, patches (log scale)"), x2="to:Q"),
        chart_of(cells)
        .mark_rect(aria=False)
        .encode(
            x=alt.X("left:Q", scale=x_scale, axis=x_axis),
            x2="right:Q",
            y=alt.Y("low:Q", title="CDS", scale=y_scale, axis=alt.Axis(tickCount=6, format=".1f")),
            y2="high:Q",
            color=alt.Color("count:Q", scale=grey, legend=None),
        ),
        chart_of([{"at": settings.cells}])
        .mark_text(text="broad", align="right", dx=-3, dy=11, fontSize=11, fill="#6b5a2e", aria=False)
        .encode(x=alt.X("at:Q", scale=x_scale, axis=x_axis), y=alt.value(0)),
    ]
    layers += _rule(partition.threshold, upper, f"threshold {partition.threshold:.3f}", "y")
    for frame, shape, colour in ((lowest, "circle", LOW_CDS), (highest, "triangle-up", HIGH_CDS)):
        points = frame.filter(pl.col("effective_area").is_not_null()).select("effective_area", "cds")
        layers.append(
            chart_of(points.to_dicts())
            .mark_point(shape=shape, size=80, filled=True, fill=colour, stroke="#ffffff", strokeWidth=0.6, aria=False)
            .encode(x=alt.X("effective_area:Q", scale=x_scale, axis=x_axis), y=alt.Y("cds:Q", scale=y_scale))
        )
    chart = alt.LayerChart(layer=layers).resolve_scale(color="independent")
    return svg_of(chart, f"CDS against effective area over {len(cds)} features, counted in cells."), most


def _count_cells(area: Values, cds: Values, patches: int, upper: float) -> list[dict[str, Any]]:
    """Features in each cell of the second figure that holds any."""
    area_edges = np.geomspace(1, patches, BINS + 1)
    cds_edges = np.linspace(0, upper, BINS + 1)
    # An area of 1 or of every patch may miss the outermost edge by a rounding.
    counts, _, _ = np.histogram2d(np.clip(area, 1, patches), cds, (area_edges, cds_edges))
    return [
        {
            "left": round(area_edges[column], 4),
            "right": round(area_edges[column + 1], 4),
            "low": round(cds_edges[row], 4),
            "high": round(cds_edges[row + 1], 4),
            "count": int(counts[column, row]),
        }
        for column, row in np.argwhere(counts > 0).tolist()
    ]


def _mark(letter: str, at: float, scale: alt.Scale) -> alt.LayerChart:
    """A dotted stem with a letter on the CDS axis."""
    base = chart_of([{"at": at}]).encode(x=alt.X("at:Q", scale=scale))
    stem = base.mark_rule(color=QUIET, strokeDash=[1, 3], aria=False).encode(
        y=alt.value(alt.expr("height")), y2=alt.value(34)
    )
    text = base.mark_text(text=letter, fontStyle="italic", fontSize=12, color=QUIET, baseline="bottom", aria=False)
    return alt.LayerChart(layer=[stem, text.encode(y=alt.value(32))])


def _rule(
    threshold: float, upper: float, label: str, axis: Literal["x", "y"], letters: float = LETTERS
) -> list[alt.Chart]:
    """A dashed line at the threshold and its label, on the side where there is room."""
    scale = alt.Scale(domain=[0, upper], nice=False)
    base = chart_of([{"at": threshold}])
    line = base.mark_rule(color=INK, strokeWidth=1.25, strokeDash=[5, 3], aria=False)
    if axis == "y":
        y = alt.Y("at:Q", scale=scale)
        text = base.mark_text(text=label, fontSize=letters, color=INK, align="left", dx=4, dy=-7, aria=False)
        return [line.encode(y=y), text.encode(x=alt.value(0), y=y)]
    x = alt.X("at:Q", scale=scale)
    if threshold > upper / 2:
        text = base.mark_text(text=label, fontSize=letters, color=INK, align="right", dx=-5, aria=False)
    else:
        text = base.mark_text(text=label, fontSize=letters, color=INK, align="left", dx=5, aria=False)
    return [line.encode(x=x), text.encode(x=x, y=alt.value(8))]
