"""Galleries of top images, and one feature's shift."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.measurement.summary import most_trusted, settings_of, views_of
from infoscope.runtime.run import Feature, Run
from infoscope.scope.classes import CLASSES
from infoscope.scope.geometry import Geometry
from infoscope.views.figures.charts import HEIGHT_TO_WIDTH
from infoscope.views.figures.paper import (
    DENSITY,
    INCH,
    LABEL,
    MARGIN,
    fitted,
    height_of,
    measured,
    plural,
    points,
    printed,
)
from infoscope.views.report.charts import INK, ON_LIGHT, QUIET, SHAPES, chart_of
from infoscope.views.report.photographs import Photographs
from infoscope.views.report.tiles import codes_of, crop_tiles

# Inches a crop: a patch of a 16 x 16 grid is then 1.3 mm wide, which the eye still counts.
CROP = 0.8
# Pixels between the two crops of an image, between images, and between rows.
NEAR, FAR, BELOW = 2.0, 8.0, 7.0
HEADER = points(LABEL) + 4.0
# Far smaller than lossless, and a PDF takes it as it is.
QUALITY = 90


def gallery(
    run: Run, photographs: Photographs, width: float, features: Sequence[int], each: int, pairs: int | None
) -> alt.LayerChart:
    """The chart.

    Args:
        run: the run.
        photographs: its photographs.
        width: inches.
        features: which, or none for those of the highest trust of each class.
        each: how many of each class then.
        pairs: top images a feature; None for as many as fit.

    Raises:
        InfoscopeError: there are no photographs, or no such feature, or none fires.
    """
    if photographs.missing:
        raise InfoscopeError(
            f"a gallery needs the photographs: {photographs.missing}; say where they are with --images"
        )
    chosen = [run.feature(number) for number in features or _most_trusted(run, each)]
    if not chosen:
        raise InfoscopeError(f"no feature of {run.path} has a class: name some with --features")
    count = pairs or max(round(width / (2 * CROP)), 1)
    room = width * INCH - 2 * MARGIN
    side = (room - (count - 1) * FAR - count * NEAR) / (2 * count)
    if side < points(LABEL):
        raise InfoscopeError(f"{plural(count, 'image')} do not fit into {width:g} inches: lower --pairs")
    rows = [_row(feature, photographs, count, side, place) for place, feature in enumerate(chosen)]
    step = HEADER + side + BELOW
    height = len(rows) * step - BELOW
    scales = {
        "x": alt.X("x:Q", scale=alt.Scale(domain=[0, room], nice=False), axis=None),
        "y": alt.Y("y:Q", scale=alt.Scale(domain=[height, 0], nice=False), axis=None),
    }
    named = [row["name"] for row in rows]
    layers: list[alt.Chart | alt.LayerChart] = [
        chart_of([tile for row in rows for tile in row["tiles"]])
        .mark_image(width=side, height=side, align="left", baseline="top", aria=False)
        .encode(**scales, url="url:N"),
        chart_of(named)
        .mark_text(align="left", baseline="middle", fontSize=points(LABEL), color=INK, aria=False)
        .encode(**scales, text="text:N"),
        *(
            chart_of([row["sign"]])
            .mark_point(
                shape=SHAPES[row["class"]],
                size=34,
                filled=row["class"] != "undefined",
                color=ON_LIGHT[row["class"]],
                opacity=1,
                aria=False,
            )
            .encode(**scales)
            for row in rows
        ),
    ]
    fixed = alt.AutoSizeParams(type="none")
    drawn = alt.LayerChart(layer=layers).properties(width=room, height=height, padding=MARGIN, autosize=fixed)
    how = "those named" if features else "of each class those of the highest trust"
    caption = (
        f"{plural(len(chosen), 'feature')}, {how}, with {plural(count, 'top image')} each: both crops under the "
        f"feature's map, darker where the code is larger, to one scale a pair; framed: the patches that both "
        f"crops show. ({measured(run)}.)"
    )
    return printed(drawn, caption)


def _most_trusted(run: Run, each: int) -> list[int]:
    """Of each class the features that are surest to be of it."""
    return [number for rows in most_trusted(run.scope, each).values() for number in rows["feature"].to_list()]


def _row(feature: Feature, photographs: Photographs, count: int, side: float, place: int) -> dict[str, Any]:
    """A feature's tiles, its line of text and its sign, at their places."""
    name = feature.scope_class
    views = views_of(feature.run)
    top = place * (HEADER + side + BELOW)
    tiles = []
    for at, (rank, image_id) in enumerate(feature.top_images.select("rank", "image_id").head(count).iter_rows()):
        try:
            photograph = photographs.read(image_id)
        except InfoscopeError as error:
            raise InfoscopeError(
                f"cannot read {image_id}, a top image of feature {feature.number} ({error}): give --images"
            ) from error
        codes = codes_of(feature.maps.filter(rank=rank), views.grid)
        pixels = round(side / INCH * DENSITY)
        for crop, tile in enumerate(crop_tiles(photograph, codes, views, ON_LIGHT[name], pixels)):
            x = at * (2 * side + NEAR + FAR) + crop * (side + NEAR)
            tiles.append({"x": round(x, 2), "y": round(top + HEADER, 2), "url": _data(tile)})
    if not tiles:
        raise InfoscopeError(f"feature {feature.number} has no top image: no photograph of the pool activates it")
    score = "no CDS" if feature.cds is None else f"CDS {feature.cds:.3f}"
    if feature.cds is not None and feature.values["cds_ci_lower"] is not None:
        score += f" ({feature.values['cds_ci_lower']:.3f} to {feature.values['cds_ci_upper']:.3f})"
    middle = round(top + points(LABEL) / 2 + 1, 2)
    return {
        "class": name,
        "tiles": tiles,
        "name": {"x": 12.0, "y": middle, "text": f"{name}, feature {feature.number}, {score}"},
        "sign": {"x": 5.0, "y": middle},
    }


def _data(tile: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(tile).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


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
    return printed(fitted(alt.LayerChart(layer=layers), width, height_of(width, HEIGHT_TO_WIDTH)), caption)
