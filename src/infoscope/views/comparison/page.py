"""The comparison of runs as one page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
from jaxtyping import Float64
from markupsafe import Markup

from infoscope.analyses.comparison import Compared, Comparison, images_of, model_of, on_same_images, rules_differ
from infoscope.measurement.summary import QUANTILES
from infoscope.runtime.atomic import atomic_write, remove_leftovers_of
from infoscope.runtime.json_values import write_json
from infoscope.scope.classes import CLASSES
from infoscope.scope.modes import SIGNIFICANCE, estimate_density
from infoscope.views.report.charts import GLOBAL, HEIGHT, INK, LOCAL, ON_LIGHT, POINTS, chart_of, svg_of
from infoscope.views.report.template import make_environment

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
    # A third more than the bars need, for the axis and three rows of names.
    height = 26 * len(labels) + 5 * _LEGEND_ROW + 20
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


PAGE, NUMBERS = "index.html", "comparison.json"
# Those that fit beside the other columns; the file has the ends too.
SHOWN = tuple(name for name, _ in QUANTILES if name != "minimum")


def write_comparison(comparison: Comparison, out: Path | str) -> Path:
    """Write ``index.html`` and ``comparison.json`` into a directory.

    Args:
        comparison: what `compare_runs` gave.
        out: the directory; made where it is missing, files of an earlier comparison are replaced.

    Returns:
        The page.

    Raises:
        InfoscopeError: they cannot be written, or a run's table cannot be read.
    """
    out = Path(out)
    environment = make_environment("infoscope.views.comparison")
    text = environment.get_template("comparison.html.j2").render(_context(comparison))
    write_json(out / NUMBERS, comparison.to_json())
    remove_leftovers_of([out / PAGE])
    with atomic_write(out / PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return out / PAGE


def _context(comparison: Comparison) -> dict[str, Any]:
    runs, opened = comparison.runs, comparison.opened
    models, blocks = {model_of(run) for run in opened}, {run.block for run in runs}
    return {
        "runs": runs,
        "warnings": comparison.warnings,
        "differences": comparison.differences,
        "figures": _figures(comparison),
        "quantiles": SHOWN,
        "calibrated": any(run.calibrated for run in runs),
        "classes": CLASSES,
        "rules_differ": rules_differ(runs),
        "expected": any(run.expected_false for run in runs),
        "hues": run_colours(runs),
        "colours": {"local": LOCAL, "global": GLOBAL},
        "same": {
            "model": models.pop() if len(models) == 1 else None,
            "block": blocks.pop() if len(blocks) == 1 else None,
            "images": images_of(opened[0]) if on_same_images(opened) else None,
        },
        "widest": _widest(runs),
        "modes_said": modes_sentence(runs),
    }


def _figures(comparison: Comparison) -> list[tuple[Markup, str]]:
    scored = [
        (run, opened.scope["cds"].drop_nulls().to_numpy())
        for run, opened in zip(comparison.runs, comparison.opened, strict=True)
        if run.scored
    ]
    if not scored:
        return []
    runs = [run for run, _ in scored]
    spectra = [cds.astype(np.float64) for _, cds in scored]
    end = density_end(spectra)
    beyond = sum(int((cds > end).sum()) for cds in spectra)
    figures = [
        (
            Markup(density_chart(runs, spectra)),
            "Kernel densities of CDS over the scored features, each with the area 1 whatever the number of features. "
            f"{beyond or 'No'} of {sum(map(len, spectra)):,} features lie beyond the axis.",
        )
    ]
    in_order = in_block_order(runs)
    if in_order:
        figures.append(
            (
                Markup(block_chart(runs)),
                "CDS over blocks: the median as a line, the middle half of the features darker, 5 to 95 % lighter.",
            )
        )
    every = comparison.runs
    if rules_differ(every) is not None:
        return figures
    by_block = in_block_order(every)
    said = "Share of all features in each scope class" + (", by block." if by_block else ", by run.")
    return [*figures, (Markup(class_chart(every, by_block)), said)]


def modes_sentence(runs: list[Compared]) -> str:
    """How many of the spectra have more than one mode, by the dip test.

    Example:
        >>> modes_sentence([])
        'No run has enough scored features for the dip test.'
    """
    tested = [run for run in runs if run.dip_p is not None]
    if not tested:
        return "No run has enough scored features for the dip test."
    rejected = [run.label for run in tested if run.dip_p is not None and run.dip_p < SIGNIFICANCE]
    if not rejected:
        return f"The dip test rejects one mode in none of the {len(tested)} runs: each spectrum is continuous."
    return f"The dip test rejects one mode in {len(rejected)} of {len(tested)} runs: {', '.join(rejected)}."


def _widest(runs: list[Compared]) -> str:
    """The lowest and the highest median, in a sentence; empty where fewer than two runs have one."""
    scored = [run for run in runs if run.cds]
    if len(scored) < 2:
        return ""
    low, high = (pick(scored, key=lambda run: run.cds["median"]) for pick in (min, max))
    return f"The median CDS runs from {low.cds['median']:.3f} ({low.label}) to {high.cds['median']:.3f} ({high.label})."
