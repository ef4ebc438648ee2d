"""The charts of a comparison, drawn ahead as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import altair as alt
import numpy as np
from jaxtyping import Float64

from infoscope.comparison.compared import Compared
from infoscope.report.colours import ON_LIGHT
from infoscope.report.drawing import HEIGHT, INK, chart_of, svg_of
from infoscope.report.figures import POINTS
from infoscope.scope.classes import CLASSES
from infoscope.scope.modes import estimate_density

# Told apart with colour-blind eyes too: Okabe and Ito 2008, their yellow left out on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_BANDS = (("5 %", "95 %", "#dce7f0"), ("25 %", "75 %", "#a9c6df"))
_LEGEND_ROW = 20
# Our choices: what of each run the axis of densities holds, and the width of a letter in pixels.
_SHOWN = 0.99
_LETTER, _LABEL = 7, 190


def density_chart(runs: Sequence[Compared], cds: Sequence[Float64[np.ndarray, " _"]]) -> str:
    """The densities of CDS over each other, as SVG text.

    Args:
        runs: those with a scored feature.
        cds: the scores of each, ``[feature]``, without nulls.
    """
    labels = [run.label for run in runs]
    end = density_end(cds)
    at = np.linspace(0, end, POINTS)
    rows = []
    for label, values in zip(labels, cds, strict=True):
        density = estimate_density(values)
        height = np.interp(at, density.x, density.value, right=0.0)
        rows += [
            {"run": label, "at": x, "height": y}
            for x, y in zip(at.round(4).tolist(), height.round(4).tolist(), strict=True)
        ]
    line = (
        chart_of(rows)
        .mark_line(strokeWidth=1.75, aria=False)
        .encode(
            x=alt.X("at:Q", title="CDS", scale=alt.Scale(domain=[0, end], nice=False), axis=_axis(".2f")),
            y=alt.Y("height:Q", title="density", axis=alt.Axis(tickCount=5)),
            color=alt.Color(
                "run:N",
                scale=alt.Scale(domain=labels, range=run_colours(runs)),
                sort=labels,
                legend=_legend(len(labels)),
            ),
        )
    )
    height = HEIGHT + _LEGEND_ROW * -(-len(labels) // _columns(len(labels)))
    return svg_of(alt.LayerChart(layer=[line]), f"Densities of CDS of {', '.join(labels)}.", height)


def density_end(cds: Sequence[Float64[np.ndarray, " _"]]) -> float:
    """The end of the densities' axis: past all but a few features of each run, so that curves stand apart.

    Example:
        >>> density_end([np.linspace(0.0, 0.1, 11), np.array([0.03])])
        0.12
    """
    most = max(float(np.quantile(values, _SHOWN)) for values in cds)
    return min(1.0, max(0.1, float(np.ceil(most * 1.15 / 0.02 - 1e-9) * 0.02)))


def block_chart(runs: Sequence[Compared]) -> str:
    """Quantiles of CDS over blocks, as SVG text; of runs each at a block of its own."""
    rows = [{"block": run.block, **{name: round(value, 4) for name, value in run.cds.items()}} for run in runs]
    x = alt.X("block:Q", title="block", axis=_block_axis(runs), scale=_block_scale(runs))
    top = alt.Scale(domain=[0, max(row["95 %"] for row in rows) * 1.05], nice=False)
    layers: list[alt.Chart | alt.LayerChart] = [
        chart_of(rows)
        .mark_area(color=colour, aria=False)
        .encode(
            x=x,
            y=alt.Y(f"{low}:Q", title="CDS", scale=top, axis=alt.Axis(tickCount=6, format=".2f")),
            y2=f"{high}:Q",
        )
        for low, high, colour in _BANDS
    ]
    layers.append(
        chart_of(rows)
        .mark_line(color=INK, strokeWidth=1.75, point=alt.OverlayMarkDef(color=INK, size=36), aria=False)
        .encode(x=x, y=alt.Y("median:Q", scale=top))
    )
    return svg_of(alt.LayerChart(layer=layers), f"Quantiles of CDS over {len(rows)} blocks.")


def class_chart(runs: Sequence[Compared], by_block: bool) -> str:
    """Share of each scope class, a bar a run, as SVG text.

    Args:
        runs: all of them.
        by_block: name the bars by block, where each run is at one of its own.
    """
    labels = [str(run.block) if by_block else run.label for run in runs]
    rows = []
    for label, run in zip(labels, runs, strict=True):
        low = 0.0
        for name, share in run.classes.items():
            rows.append({"run": label, "class": name, "from": round(low, 5), "to": round(low + share, 5)})
            low += share
    colours = [ON_LIGHT[name] for name in CLASSES]
    # Browsers' letters may be wider than those that the renderer measures.
    room = min(_LABEL, _LETTER * max(map(len, labels)))
    bars = (
        chart_of(rows)
        .mark_bar(aria=False)
        .encode(
            y=alt.Y(
                "run:N",
                title="block" if by_block else None,
                sort=labels,
                axis=alt.Axis(labelLimit=_LABEL, minExtent=room, domain=False, ticks=False),
                scale=alt.Scale(paddingInner=0.25, paddingOuter=0.1),
            ),
            x=alt.X(
                "from:Q",
                title="share of features",
                scale=alt.Scale(domain=[0, 1], nice=False),
                axis=_axis(".0%"),
            ),
            x2="to:Q",
            color=alt.Color(
                "class:N",
                scale=alt.Scale(domain=list(CLASSES), range=colours),
                sort=list(CLASSES),
                legend=alt.Legend(orient="bottom", title=None, columns=3, labelFontSize=12, labelLimit=0),
            ),
        )
    )
    # A third more than the bars need, for the axis and two rows of names.
    height = 26 * len(labels) + 4 * _LEGEND_ROW + 20
    return svg_of(alt.LayerChart(layer=[bars]), f"Share of each class in {', '.join(labels)}.", height)


def run_colours(runs: Sequence[Compared]) -> list[str]:
    """A colour for each run: blocks of one model from light to dark, anything else as different as can be.

    With more runs than colours they come again; labels in the legend are in the same order.
    """
    if in_block_order(runs):
        light, dark = np.array([148, 196, 223]), np.array([8, 36, 92])
        steps = np.linspace(0, 1, len(runs))[:, None]
        return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in (light + steps * (dark - light)).round().astype(int).tolist()]
    return [COLOURS[place % len(COLOURS)] for place in range(len(runs))]


def in_block_order(runs: Sequence[Compared]) -> bool:
    """Whether these are blocks of one model, each once and in order, so that a block is a place on an axis."""
    one = len({(run.model, run.reads) for run in runs}) == 1
    return one and len(runs) > 1 and all(a.block < b.block for a, b in pairwise(runs))


def _axis(number: str) -> Any:
    return alt.Axis(tickCount=6, format=number, grid=False)


def _block_axis(runs: Sequence[Compared]) -> Any:
    return alt.Axis(values=[run.block for run in runs], format="d", grid=False)


def _block_scale(runs: Sequence[Compared]) -> Any:
    return alt.Scale(domain=[runs[0].block, runs[-1].block], nice=False, padding=8)


def _columns(count: int) -> int:
    """Names to a row of the legend."""
    return 4 if count > 6 else 2


def _legend(count: int) -> Any:
    return alt.Legend(
        orient="bottom",
        title=None,
        columns=_columns(count),
        columnPadding=24,
        labelFontSize=12,
        labelLimit=420 // _columns(count),
        symbolType="stroke",
        symbolStrokeWidth=3,
    )
