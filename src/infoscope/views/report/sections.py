"""Sections of the overview: controls and outlier tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from markupsafe import Markup

from infoscope.analyses.outliers.record import OutlierRecord
from infoscope.analyses.outliers.result import BLOCKS, NORMS, OUTLIERS_FILE, POSITIONS
from infoscope.errors import InfoscopeError
from infoscope.measurement.controls import RunControls, run_controls
from infoscope.measurement.summary import Settings
from infoscope.runtime.run import Run
from infoscope.runtime.schema import read_table
from infoscope.runtime.seal import read_whole
from infoscope.runtime.typed import from_json
from infoscope.scope.classes import CLASSES
from infoscope.views.report.charts import INK, ON_LIGHT, chart_of, stacked_bars, svg_of
from infoscope.views.report.outliers import norm_chart, place_chart, share_chart

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


@dataclass(frozen=True)
class OutlierSection:
    """What the section prints.

    Attributes:
        record: ``outliers.json``.
        charts: a drawing and its caption each.
    """

    record: dict[str, Any]
    charts: list[tuple[Markup, str]]


def outlier_section(run: Run) -> OutlierSection | None:
    """The section, or None where no analysis of outlier tokens is in the run.

    Raises:
        InfoscopeError: there is one that cannot be read.
    """
    folder = run.path / "outliers"
    if not (folder / OUTLIERS_FILE).is_file():
        return None
    again = "restore it, or run `infoscope outliers` again"
    record = read_whole(folder / OUTLIERS_FILE, again)
    try:
        from_json(OutlierRecord, record, other_entries=True, undefined=True)
    except ValueError as error:
        raise InfoscopeError(f"{folder / OUTLIERS_FILE} is no record of outlier tokens ({error}); {again}") from error
    model = record["model"]
    limits = {"patch": model["grid"] ** 2}
    blocks = read_table(folder / "blocks.parquet", BLOCKS)
    norms = read_table(folder / "norms.parquet", NORMS)
    positions = read_table(folder / "positions.parquet", POSITIONS, limits=limits, key=("block", "patch"))
    if model["block"] not in positions["block"] or not set(norms["block"]) <= set(blocks["block"]):
        raise InfoscopeError(f"{folder / 'positions.parquet'} is not of the blocks of {OUTLIERS_FILE}; {again}")
    kind = "outlier tokens" if record["presence"]["kind"] == "outlier" else "the tail"
    places = place_chart(positions, model["block"], model["grid"], record["sample"], kind)
    charts = [
        (share_chart(blocks), "Share of the patch tokens above each cutoff, by block. Dashed: the share above 3 times "
         "the median from which a block counts as having outlier tokens."),
        (norm_chart(norms, blocks), "Norms of the patch tokens at each block, in multiples of its median; darker is "
         "more tokens. Dashed: 3 times the median."),
        (places, f"How often each patch of the full view is of {kind} at block {model['block']}."),
    ]  # fmt: skip
    return OutlierSection(record, [(Markup(drawing), caption) for drawing, caption in charts])
