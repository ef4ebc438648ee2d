"""Histogram and scatter of scores, and how far maps move at each shift."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import polars as pl
from jaxtyping import Float64

from infoscope.errors import InfoscopeError
from infoscope.measurement.summary import partition_of, settings_of
from infoscope.runtime.run import Run
from infoscope.scope.classes import CLASSES
from infoscope.scope.geometry import Geometry
from infoscope.views.figures.options import By
from infoscope.views.figures.paper import INCH, LABEL, fitted, height_of, measured, plural, points, printed
from infoscope.views.report.charts import BAR, HIGH_CDS, LOW_CDS, ON_LIGHT, QUIET, SHAPES, chart_of, spectrum_layers
from infoscope.views.report.explorer import ExplorerColumn, explorer_columns

SIDES = {"low-CDS": LOW_CDS, "high-CDS": HIGH_CDS}
# Our choice: near the golden section.
HEIGHT_TO_WIDTH = 0.7


def histogram(run: Run, width: float, by: By) -> alt.LayerChart:
    """The spectrum of CDS with its threshold, coloured by class or by side of the threshold.

    Args:
        run: the run.
        width: inches.
        by: what colours the bars.

    Raises:
        InfoscopeError: no feature has a score.
    """
    partition = partition_of(run)
    if partition is None:
        raise InfoscopeError(
            f"no feature of {run.path} has a score to draw: measure more images, or lower --top-images"
        )
    scored = run.scope.filter(pl.col("cds").is_not_null())
    cds = scored["cds"].to_numpy()
    if by == "class":
        groups = scored["scope_class"].to_list()
        colours: dict[str, str] = {name: ON_LIGHT[name] for name in CLASSES if name in groups}
        said = "scope class"
    else:
        groups = ["low-CDS" if value <= partition.threshold else "high-CDS" for value in cds.tolist()]
        colours, said = SIDES, "side of the threshold"
    layers = spectrum_layers(cds, groups, colours, partition, letters=points(LABEL), legend=_legend(width))
    caption = (
        f"CDS of {plural(len(cds), 'scored feature')} of {run.scope.height:,}, in bars of {BAR:g}, by {said}; line: "
        f"kernel density; dashed: the threshold. {partition.sentence()} ({measured(run)}.)"
    )
    return printed(fitted(alt.LayerChart(layer=layers), width, height_of(width, HEIGHT_TO_WIDTH)), caption)


SCATTER_HEIGHT_TO_WIDTH = 0.8
# Pixels: marks nearer than this are one mark in print, so that tens of thousands of features make a small file.
APART = 0.5
# Square pixels of a mark, for few features and for many.
MARK, SMALL_MARK = 14.0, 5.0
MANY = 2000


def scatter(run: Run, width: float, x: str, y: str) -> alt.LayerChart:
    """Two columns against each other, a mark per feature and class.

    Args:
        run: the run.
        width: inches.
        x: name of the column to the right.
        y: name of the column upwards.

    Raises:
        InfoscopeError: the run has no such column, or no feature has both values.
    """
    columns = {column.name: column for column in explorer_columns(run)}
    for name in (x, y):
        if name not in columns:
            raise InfoscopeError(f"{run.path} has no column {name}: choose of {', '.join(columns)}")
    across, up = columns[x], columns[y]
    table = pl.DataFrame(
        {
            "x": across.values.cast(pl.Float64).fill_nan(None),
            "y": up.values.cast(pl.Float64).fill_nan(None),
            "class": run.scope["scope_class"].fill_null("undefined"),
        }
    ).drop_nulls()
    if table.is_empty():
        raise InfoscopeError(f"no feature of {run.path} has both {x} and {y}")
    drawn = _apart(table, width)
    counts = dict(table["class"].value_counts().iter_rows())
    names = [name for name in CLASSES if name in counts]
    domains = [_domain(table[axis].to_numpy()) for axis in ("x", "y")]
    size = SMALL_MARK if drawn.height > MANY else MARK
    colour, shape = _by_class("class", names, width)
    base = chart_of(drawn.to_dicts()).encode(
        x=alt.X("x:Q", title=_title(across), scale=alt.Scale(domain=domains[0], nice=False), axis=_axis()),
        y=alt.Y("y:Q", title=_title(up), scale=alt.Scale(domain=domains[1], nice=False), axis=_axis()),
        color=colour,
        shape=shape,
    )
    chart = alt.LayerChart(layer=[base.mark_point(size=size, filled=True, opacity=1, aria=False)])
    missing = run.scope.height - table.height
    left_out = f"; {plural(missing, 'feature')} without one of the two left out" if missing else ""
    above = _title(up)
    caption = (
        f"{above[0].upper()}{above[1:]} against {_title(across)} of {plural(table.height, 'feature')}: "
        f"{', '.join(f'{counts[name]:,} {name}' for name in names)}{left_out}. ({measured(run)}.)"
    )
    return printed(fitted(chart, width, height_of(width, SCATTER_HEIGHT_TO_WIDTH)), caption)


def _by_class(column: str, names: Sequence[str], width: float) -> tuple[alt.Color, alt.Shape]:
    """The colours and shapes of some classes, with one legend for both."""
    legend = _legend(width)
    colours = alt.Scale(domain=names, range=[ON_LIGHT[name] for name in names])
    shapes = alt.Scale(domain=names, range=[SHAPES[name] for name in names])
    return alt.Color(f"{column}:N", scale=colours, legend=legend), alt.Shape(f"{column}:N", scale=shapes, legend=legend)


def _legend(width: float) -> alt.Legend:
    """A legend that fits a figure of this width in inches; 0 columns are one row."""
    return alt.Legend(title=None, columns=3 if width < 4 else 0)


def _apart(table: pl.DataFrame, width: float) -> pl.DataFrame:
    """The marks that are seen: of a class, one to each half pixel; classes of many features under those of few."""
    cells = []
    for axis in ("x", "y"):
        low, high = _domain(table[axis].to_numpy())
        steps = width * INCH / APART
        cells.append(((pl.col(axis) - low) / (high - low) * steps).floor().cast(pl.Int32).alias(f"cell-{axis}"))
    seen = table.with_columns(*cells, pl.len().over("class").alias("many"))
    kept = seen.unique(["class", "cell-x", "cell-y"], keep="first", maintain_order=True)
    digits = [pl.col(axis).round_sig_figs(5) for axis in ("x", "y")]
    return kept.sort("many", "class", descending=[True, False], maintain_order=True).select(*digits, "class")


def _domain(values: Float64[np.ndarray, " _"]) -> tuple[float, float]:
    """The ends of an axis: 0 where values come near it, else a little beyond them.

    Example:
        >>> _domain(np.array([0.1, 1.0])), _domain(np.array([10.0, 11.0])), _domain(np.array([0.0, 0.0]))
        ((0.0, 1.027), (9.97, 11.03), (0.0, 1.0))
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return (0.0, 1.0) if low == 0 else (min(0.0, 2 * low), max(0.0, 2 * low))
    room = 0.03 * (high - low)
    if 0 <= low <= 0.25 * high:
        return 0.0, round(high + room, 12)
    return round(low - room, 12), round(high + room, 12)


def _title(column: ExplorerColumn) -> str:
    unit = column.unit.partition(",")[0]
    return column.label if unit in ("", "index") else f"{column.label} ({unit})"


def _axis() -> alt.Axis:
    return alt.Axis(tickCount=5, grid=False)


def shift(run: Run, width: float) -> alt.LayerChart:
    """How far maps move at each shift: medians and quartiles of each class.

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
    colour, shape = _by_class("scope_class", names, width)
    base = chart_of(rows.with_columns(pl.col("median", "low", "high").round(5)).to_dicts())
    layers: list[alt.Chart | alt.LayerChart] = [
        chart_of(movement)
        .mark_line(color=QUIET, strokeDash=[4, 3], strokeWidth=1, aria=False)
        .encode(x=x, y=alt.Y("moved:Q", scale=y_scale)),
        chart_of(movement[-1:])
        .mark_text(text="glued to the crop", align="right", dx=-6, dy=-5, fontSize=points(LABEL), color=QUIET)
        .encode(x=x, y=alt.Y("moved:Q", scale=y_scale)),
        base.mark_area(opacity=0.16, aria=False).encode(
            x=x,
            y=alt.Y("low:Q", scale=y_scale),
            y2="high:Q",
            color=alt.Color("scope_class:N", scale=alt.Scale(domain=names, range=[ON_LIGHT[name] for name in names])),
        ),
        base.mark_line(strokeWidth=1.5, aria=False).encode(x=x, y=y, color=colour),
        base.mark_point(size=26, filled=True, opacity=1, aria=False).encode(x=x, y=y, color=colour, shape=shape),
    ]
    whole = known["feature"].n_unique()
    caption = (
        f"Distance that maps move against the pixels, over the shift of the crops: medians and quartiles of "
        f"{plural(whole, 'feature')} scored at every shift ({', '.join(f'{counts[name]:,} {name}' for name in names)})."
        f" Dashed: a map glued to its place in the crop. ({measured(run)}.)"
    )
    return printed(fitted(alt.LayerChart(layer=layers), width, height_of(width, HEIGHT_TO_WIDTH)), caption)
