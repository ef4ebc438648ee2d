"""How far maps move as the crops move apart, by scope class."""

from __future__ import annotations

import altair as alt
import polars as pl

from infoscope.errors import InfoscopeError
from infoscope.figures.histogram import SHAPE
from infoscope.figures.paper import LABEL, fitted, height_of, points, printed
from infoscope.figures.words import measured, plural
from infoscope.report.colours import ON_LIGHT, SHAPES
from infoscope.report.drawing import QUIET, chart_of
from infoscope.report.summary import settings_of
from infoscope.scope.classes import CLASSES
from infoscope.scope.geometry import Geometry
from infoscope.storage.run import Run


def shift(run: Run, width: float) -> alt.LayerChart:
    """The chart.

    Args:
        run: the run.
        width: inches.

    Raises:
        InfoscopeError: one shift was measured, or no feature is scored at every shift.
    """
    curve = run.shift_curve
    if curve is None:
        raise InfoscopeError(
            f"{run.path} has no shift curve: measure into a new directory with --shift 1,2,3,4 to draw one"
        )
    shifts = sorted(curve["shift"].unique().to_list())
    known = curve.drop_nulls("cds_patches").filter(pl.len().over("feature") == len(shifts))
    joined = known.join(run.scope.select("feature", "scope_class"), on="feature")
    if joined.is_empty():
        raise InfoscopeError(f"no feature of {run.path} is scored at every shift: measure more images")
    rows = (
        joined.group_by("scope_class", "shift")
        .agg(
            pl.col("cds_patches").median().alias("median"),
            pl.col("cds_patches").quantile(0.25, "linear").alias("low"),
            pl.col("cds_patches").quantile(0.75, "linear").alias("high"),
            pl.len().alias("features"),
        )
        .sort("scope_class", "shift")
    )
    counts = dict(rows.select("scope_class", "features").unique().iter_rows())
    names = [name for name in CLASSES if name in counts]
    settings = settings_of(run)
    movement = [
        {"shift": each, "moved": Geometry(settings.grid, each, settings.metric).movement} for each in (0, *shifts)
    ]
    top = 1.05 * max(float(rows["high"].max()), movement[-1]["moved"])  # type: ignore[arg-type]
    x = alt.X(
        "shift:Q",
        title="shift, patches",
        scale=alt.Scale(domain=[0, shifts[-1] * 1.04], nice=False),
        axis=alt.Axis(values=[0, *shifts], format="d", grid=False),
    )
    y_scale = alt.Scale(domain=[0, top], nice=False)
    y = alt.Y("median:Q", title="distance moved, patches", scale=y_scale, axis=alt.Axis(tickCount=5))
    colours = alt.Scale(domain=names, range=[ON_LIGHT[name] for name in names])
    shapes = alt.Scale(domain=names, range=[SHAPES[name] for name in names])
    legend = alt.Legend(title=None, columns=3 if width < 4 else 0)
    base = chart_of(rows.with_columns(pl.col("median", "low", "high").round(5)).to_dicts())
    colour = alt.Color("scope_class:N", scale=colours, legend=legend)
    layers: list[alt.Chart | alt.LayerChart] = [
        chart_of(movement)
        .mark_line(color=QUIET, strokeDash=[4, 3], strokeWidth=1, aria=False)
        .encode(x=x, y=alt.Y("moved:Q", scale=y_scale)),
        chart_of(movement[-1:])
        .mark_text(text="glued to the crop", align="right", dx=-6, dy=-5, fontSize=points(LABEL), color=QUIET)
        .encode(x=x, y=alt.Y("moved:Q", scale=y_scale)),
        base.mark_area(opacity=0.16, aria=False).encode(
            x=x, y=alt.Y("low:Q", scale=y_scale), y2="high:Q", color=alt.Color("scope_class:N", scale=colours)
        ),
        base.mark_line(strokeWidth=1.5, aria=False).encode(x=x, y=y, color=colour),
        base.mark_point(size=26, filled=True, opacity=1, aria=False).encode(
            x=x, y=y, color=colour, shape=alt.Shape("scope_class:N", scale=shapes, legend=legend)
        ),
    ]
    whole = known["feature"].n_unique()
    caption = (
        f"Distance that maps move against the pixels, over the shift of the crops: medians and quartiles of "
        f"{plural(whole, 'feature')} scored at every shift ({', '.join(f'{counts[name]:,} {name}' for name in names)})."
        f" Dashed: a map glued to its place in the crop. ({measured(run)}.)"
    )
    return printed(fitted(alt.LayerChart(layer=layers), width, height_of(width, SHAPE)), caption)
