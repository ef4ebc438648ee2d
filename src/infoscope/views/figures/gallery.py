"""Galleries of top images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from infoscope.errors import InfoscopeError
from infoscope.measurement.summary import most_trusted, views_of
from infoscope.runtime.run import Feature, Run
from infoscope.views.figures.paper import (
    DENSITY,
    INCH,
    LABEL,
    MARGIN,
    measured,
    plural,
    points,
    printed,
)
from infoscope.views.report.charts import INK, ON_LIGHT, SHAPES, chart_of
from infoscope.views.report.photographs import Photographs
from infoscope.views.report.tiles import codes_of, crop_tiles, data_uri

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
    """Features with their top images, both crops under the map.

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
            tiles.append(
                {
                    "x": round(x, 2),
                    "y": round(top + HEADER, 2),
                    "url": data_uri(tile, "JPEG", quality=QUALITY, subsampling=0),
                }
            )
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
