"""The charts, drawn ahead as SVG: nothing is left for the page to compute or to fetch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import altair as alt
import numpy as np
import polars as pl
from jaxtyping import Float64

from infoscope.report.bars import BAR, axis_end, stacked_bars
from infoscope.report.colours import HIGH_CDS, LOW_CDS
from infoscope.report.drawing import INK, QUIET, chart_of, svg_of
from infoscope.report.summary import Settings
from infoscope.scope.modes import estimate_density
from infoscope.scope.partition import Partition

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
    palette = alt.Scale(domain=list(colours), range=list(colours.values()))
    return [
        chart_of(stacked_bars(cds, groups, list(colours), edges))
        .mark_bar(binSpacing=0.5, opacity=0.85, aria=False)
        .encode(
            x=alt.X("from:Q", title="CDS", scale=x_scale, axis=x_axis),
            x2="to:Q",
            y=alt.Y("low:Q", title="features", axis=alt.Axis(tickMinStep=1, tickCount=5, format="d")),
            y2="high:Q",
            color=alt.Color("group:N", scale=palette, legend=legend, title=None),
        ),
        chart_of(_density_line(cds, upper))
        .mark_line(color=INK, strokeWidth=1.25, opacity=0.75, aria=False)
        .encode(x=alt.X("at:Q", scale=x_scale), y="height:Q"),
        *_rule(partition.threshold, upper, f"threshold {partition.threshold:.3f} ({partition.kind})", "x", letters),
    ]


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
