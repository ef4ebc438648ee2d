"""What the model loses without groups of features, beside random groups, site by site."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from infoscope.analyses.probes.result import RANDOM, short_name
from infoscope.runtime.run import Run
from infoscope.runtime.schema import SCOPE
from infoscope.views.figures.paper import AXIS, INCH, LABEL, MARGIN, measured, points, printed
from infoscope.views.figures.results import Removals, Removed, Steps, found_results
from infoscope.views.report.charts import HIGH_CDS, INK, LOW_CDS, ON_LIGHT, QUIET, SHAPES, chart_of

# Pixels: of a row, of the names beside them, and between sites.
ROW, NAMES, BETWEEN = 15.0, 100.0, 14.0
# Of a curve: its height, an axis' numbers with their title, and half of the last number.
CURVE, NUMBERS, LAST = 130.0, 42.0, 12.0
SITES = {"rerun": "network run on", "site": "block's own tokens", "model": ""}
UNTOUCHED = "untouched"
# The sides of the threshold have hues and shapes of two classes, which are other features: each row names its group.
HUES = dict(ON_LIGHT) | {"high-CDS": HIGH_CDS, "low-CDS": LOW_CDS}
FORMS = dict(SHAPES) | {"high-CDS": "diamond", "low-CDS": "circle"}
ENDS = {"top": ("highest first", HIGH_CDS), "bottom": ("lowest first", LOW_CDS)}
MATCHES = {"size": [1, 0], "mass": [3, 2]}


def removal(run: Run, width: float, wanted: Sequence[str]) -> alt.VConcatChart:
    """Scores without groups of features: a panel per result, a column per site.

    Args:
        run: the run.
        width: inches.
        wanted: which results, as folders of the run; none for all.

    Raises:
        InfoscopeError: the run has no such results.
    """
    results = found_results(run, wanted)
    # Panels above each other begin at one line: where the names of variants end, or the numbers of an axis.
    beside = NAMES if any(isinstance(result, Removals) for result in results) else NUMBERS
    panels = [
        _variants(result, width) if isinstance(result, Removals) else _curve(result, width, beside)
        for result in results
    ]
    chart: alt.VConcatChart = alt.VConcatChart(vconcat=panels, spacing=14).properties(padding=MARGIN)
    rows = [result for result in results if isinstance(result, Removals)]
    said = []
    if rows:
        said.append(
            "Scores without groups of features; dashed: the untouched model. Lines: 95 % paired bootstrap interval of "
            "the difference to it, over images"
        )
        draws = sorted({row.draws for result in rows for row in result.rows if row.draws > 1})
        if draws:
            count = str(draws[0]) if len(draws) == 1 else f"{draws[0]} to {draws[-1]}"
            said[-1] += f"; of random groups: standard deviation over {count} draws"
    if len(rows) < len(results):
        said.append(
            "Test scores by the share of features removed, in the order of a column; grey: random sets of equal size "
            "(solid) and mass (dashed), means over draws with their standard deviation"
        )
    shown = "; ".join(f"{result.folder}: {result.metric}" for result in results)
    caption = f"{'. '.join(said)}. ({shown}; {measured(run)}.)"
    apart: alt.VConcatChart = chart.resolve_scale(color="independent", shape="independent")
    return printed(apart, caption)


def _variants(result: Removals, width: float) -> alt.HConcatChart:
    """Rows of variants, a column a site."""
    sites = list(dict.fromkeys(row.site for row in result.rows))
    names = list(dict.fromkeys(row.name for row in result.rows if row.name != UNTOUCHED))
    room = (width * INCH - 2 * MARGIN - NAMES - BETWEEN * (len(sites) - 1)) / len(sites)
    ends = [end for row in result.rows for end in (row.score, row.low, row.high) if end is not None]
    # Room for half of a number at either end of the axis.
    spare = 0.1 * (max(ends) - min(ends) or 1.0)
    domain = [min(ends) - spare, max(ends) + spare]
    columns = []
    for place, site in enumerate(sites):
        column = _site(result, site, names, domain, room, place == 0)
        if said := SITES.get(site, site):
            column = column.properties(
                title=alt.TitleParams(text=said, fontSize=points(LABEL), color=QUIET, frame="group")
            )
        columns.append(column)
    row: Any = alt.HConcatChart(hconcat=columns, spacing=BETWEEN)
    titled: alt.HConcatChart = row.properties(title=alt.TitleParams(text=result.title, frame="bounds"))
    return titled


def _site(
    result: Removals, site: str, names: list[str], domain: list[float], room: float, labelled: bool
) -> alt.LayerChart:
    """One site's scores."""
    here = {row.name: row for row in result.rows if row.site == site}
    rows = [_drawn(here[name]) for name in names if name in here]
    axis = alt.Axis(
        labels=labelled,
        labelExpr=f"{json.dumps({name: _label(name) for name in names})}[datum.value]",
        title=None,
        ticks=False,
        domain=False,
        grid=True,
        labelLimit=NAMES,
        labelColor={
            "condition": {"test": f"indexof(datum.value, {json.dumps(RANDOM)}) == 0", "value": QUIET},
            "value": INK,
        },
        minExtent=NAMES if labelled else 0,
        maxExtent=NAMES if labelled else 0,
        labelAlign="left",
        labelPadding=NAMES - 4 if labelled else 0,
    )
    y = alt.Y("name:N", sort=names, axis=axis, scale=alt.Scale(domain=names))
    scale = alt.Scale(domain=domain, nice=False, zero=False)
    x = alt.X("score:Q", title=result.metric, scale=scale, axis=alt.Axis(tickCount=3, grid=False))
    layers: list[alt.Chart] = []
    if UNTOUCHED in here:
        layers.append(
            chart_of([{"score": round(here[UNTOUCHED].score, 4)}])
            .mark_rule(color=INK, strokeDash=[4, 3], strokeWidth=1, aria=False)
            .encode(x=x)
        )
    for row in rows:
        one = chart_of([row])
        if row["low"] is not None:
            layers.append(
                one.mark_rule(color=row["colour"], strokeWidth=1.25, aria=False).encode(
                    x=alt.X("low:Q", scale=scale), x2="high:Q", y=y
                )
            )
        layers.append(
            one.mark_point(shape=row["form"], size=36, filled=True, color=row["colour"], opacity=1, aria=False).encode(
                x=x, y=y
            )
        )
    drawn: alt.LayerChart = alt.LayerChart(layer=layers).properties(width=room, height=ROW * len(names))
    return drawn


def _drawn(row: Removed) -> dict[str, Any]:
    group = row.name.removeprefix("minus ")
    grey = row.name.startswith(RANDOM)
    ends = {"score": row.score, "low": row.low, "high": row.high}
    numbers = {name: None if value is None else round(value, 4) for name, value in ends.items()}
    return {
        "name": row.name,
        "colour": AXIS if grey else HUES.get(group, INK),
        "form": "circle" if grey else FORMS.get(group, "square"),
        **numbers,
    }


def _label(name: str) -> str:
    """A row's name as it is written: random groups stand under the one they match.

    Example:
        >>> _label("minus random of equal mass as global"), _label("minus local")
        ('random, equal mass', 'minus local')
    """
    return short_name(name).strip()


def _curve(result: Steps, width: float, beside: float) -> alt.LayerChart:
    """Scores along a selection."""
    rows = result.rows.with_columns(pl.col("score", "low", "high").round(4))
    ends = [result.untouched, *pl.concat([rows[name] for name in ("score", "low", "high")]).drop_nulls()]
    spare = 0.06 * (max(ends) - min(ends) or 1.0)
    y_scale = alt.Scale(domain=[min(ends) - spare, max(ends) + spare], nice=False, zero=False)
    ordered_by = SCOPE[result.column].label if result.column in SCOPE else result.column
    x = alt.X(
        "share:Q",
        title=f"share of features removed, by {ordered_by}",
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=alt.Axis(format=".0%", tickCount=5, grid=False),
    )
    y = alt.Y("score:Q", title=result.metric, scale=y_scale, axis=alt.Axis(tickCount=4, minExtent=24, maxExtent=24))
    layers: list[alt.Chart] = [
        chart_of([{"score": round(result.untouched, 4)}])
        .mark_rule(color=INK, strokeDash=[4, 3], strokeWidth=1, aria=False)
        .encode(y=y)
    ]
    for (_, match), line in rows.filter(pl.col("match").is_not_null()).group_by("end", "match", maintain_order=True):
        random = chart_of(line.sort("share").to_dicts()).encode(x=x)
        layers += [
            random.mark_area(color=AXIS, opacity=0.14, aria=False).encode(y=alt.Y("low:Q", scale=y_scale), y2="high:Q"),
            random.mark_line(color=AXIS, strokeDash=MATCHES.get(str(match), [1, 0]), strokeWidth=1, aria=False).encode(
                y=y
            ),
        ]
    names = [name for name, _ in ENDS.values()]
    own = rows.filter(pl.col("match").is_null()).with_columns(
        pl.col("end").replace_strict({end: name for end, (name, _) in ENDS.items()}, default=pl.col("end"))
    )
    legend = alt.Legend(title=None)
    hues = alt.Scale(domain=names, range=[hue for _, hue in ENDS.values()])
    colour = alt.Color("end:N", scale=hues, legend=legend)
    shape = alt.Shape("end:N", scale=alt.Scale(domain=names, range=["diamond", "circle"]), legend=legend)
    base = chart_of(own.sort("end", "share").to_dicts()).encode(x=x, y=y, color=colour)
    layers += [
        base.mark_line(strokeWidth=1.5, aria=False),
        base.mark_point(size=26, filled=True, opacity=1, aria=False).encode(shape=shape),
    ]
    room = width * INCH - 2 * MARGIN - beside - LAST
    drawn: alt.LayerChart = alt.LayerChart(layer=layers).properties(
        width=room,
        height=CURVE,
        title=alt.TitleParams(text=result.title, frame="bounds", dx=NUMBERS - beside),
    )
    return drawn
