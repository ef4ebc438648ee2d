"""The page's section on scope classes: their shares, the calibrated spectrum, and how far to believe them."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import numpy as np
import polars as pl
from markupsafe import Markup

from infoscope.measurement.run_controls import RunControls, run_controls
from infoscope.report.bars import stacked_bars
from infoscope.report.colours import ON_LIGHT
from infoscope.report.drawing import INK, chart_of, svg_of
from infoscope.report.summary import Settings
from infoscope.scope.classes import CLASSES
from infoscope.storage.run import Run

COLOURS = dict(ON_LIGHT)
# Our choices: bars of 0.05, up to one and a half times what unrelated pictures give.
BAR = 0.05
UPPER = 1.5


@dataclass(frozen=True)
class ClassSection:
    """What the section prints.

    Attributes:
        controls: the numbers.
        rows: class, colour, number of features, share.
        spectrum: histogram of the calibrated score by class, as SVG; empty where no feature has one.
        calibrated: how many features have one.
    """

    controls: RunControls
    rows: list[tuple[str, str, int, float]]
    spectrum: Markup
    calibrated: int


def class_section(run: Run, settings: Settings) -> ClassSection:
    """Gather the section from a run's table."""
    controls = run_controls(run.scope, settings.top_images)
    total = max(run.scope.height, 1)
    rows = [(name, COLOURS[name], count, count / total) for name, count in controls.classes.items()]
    scored = run.scope.filter(pl.col("cds_calibrated").is_not_null())
    spectrum = calibrated_histogram(scored) if scored.height else ""
    return ClassSection(controls, rows, Markup(spectrum), scored.height)


def calibrated_histogram(scored: pl.DataFrame) -> str:
    """Histogram of the calibrated score, classes stacked, with a line where unrelated pictures lie, as SVG text.

    Args:
        scored: rows of ``scope.parquet`` with a calibrated score; at least one.
    """
    edges = np.linspace(0, UPPER, round(UPPER / BAR) + 1)
    # What lies beyond the axis is counted at its end.
    values = np.minimum(scored["cds_calibrated"].to_numpy(), UPPER)
    bars = stacked_bars(values, scored["scope_class"].to_list(), CLASSES, edges)
    x_scale = alt.Scale(domain=[0, UPPER], nice=False)
    colours = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    unrelated = chart_of([{"at": 1.0}]).encode(x=alt.X("at:Q", scale=x_scale))
    layers: list[alt.Chart | alt.LayerChart] = [
        chart_of(bars)
        .mark_bar(binSpacing=0.5, opacity=0.85, aria=False)
        .encode(
            x=alt.X("from:Q", title="calibrated score", scale=x_scale, axis=alt.Axis(tickCount=6, grid=False)),
            x2="to:Q",
            y=alt.Y("low:Q", title="features", axis=alt.Axis(tickMinStep=1, tickCount=5, format="d")),
            y2="high:Q",
            color=alt.Color("group:N", scale=colours, legend=None),
        ),
        unrelated.mark_rule(color=INK, strokeWidth=1.25, strokeDash=[5, 3], aria=False),
        unrelated.mark_text(text="unrelated pictures", fontSize=12, color=INK, align="left", dx=5, aria=False).encode(
            y=alt.value(8)
        ),
    ]
    return svg_of(
        alt.LayerChart(layer=layers), f"Histogram of the calibrated score over {scored.height} features, by class."
    )
