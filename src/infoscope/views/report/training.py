"""A training's page: its curves, what the SAE does on tokens held out, and how often its features fire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
from jinja2 import TemplateError
from markupsafe import Markup

from infoscope.dictionaries.formats.infoscope import read_training
from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import atomic_write, remove_leftovers_of
from infoscope.views.report.charts import INK, LOCAL, chart_of, svg_of
from infoscope.views.report.template import make_environment

# The curves, their axis, and the format of its numbers.
CURVES = (
    ("fvu", "fraction of variance unexplained", ".2f"),
    ("l0", "codes a token (L0)", "d"),
    ("dead", "share of features dead", ".1%"),
    ("learning_rate", "learning rate", ".0e"),
)
LINE = LOCAL
CURVE_HEIGHT = 220


def is_trained_sae(directory: Path) -> bool:
    """Whether a directory holds an SAE with its training curves."""
    return (directory / "sae.json").is_file() and (directory / "training.json").is_file()


def write_training_page(directory: Path) -> Path:
    """Write ``training.html`` into an SAE directory: one file that needs no other and no network.

    Args:
        directory: what `infoscope train` wrote.

    Returns:
        The file.

    Raises:
        InfoscopeError: the directory is not one, or the page cannot be written.

    Example:
        >>> write_training_page(Path("no/such/sae"))
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no/such/sae holds no SAE with training curves; name a directory that
        `infoscope train` wrote
    """
    if not is_trained_sae(directory):
        raise InfoscopeError(
            f"{directory} holds no SAE with training curves; name a directory that `infoscope train` wrote"
        )
    description, curves = read_training(directory)
    try:
        page = make_environment().get_template("training.html.j2").render(_context(directory, description, curves))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, TemplateError) as error:
        raise InfoscopeError(
            f"sae.json and training.json in {directory} do not describe a training ({error}); train again, or measure "
            "the SAE without its page"
        ) from error
    target = directory / "training.html"
    remove_leftovers_of([target])
    with atomic_write(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def _context(directory: Path, description: dict[str, Any], curves: dict[str, list[Any]]) -> dict[str, Any]:
    training = description["training"]
    held_out = training.get("held_out")
    return {
        "name": directory.resolve().name,
        "description": description,
        "training": training,
        "config": training["config"],
        "site": description["site"] or {},
        "held_out": held_out,
        "curves": [
            (title, Markup(curve_chart(curves["tokens"], curves[column], title, number)))
            for column, title, number in CURVES
        ],
        "density": Markup(density_chart(held_out)) if held_out else "",
        "points": len(curves["tokens"]),
    }


def curve_chart(tokens: list[Any], values: list[Any], title: str, number: str) -> str:
    """One curve over the tokens seen, as SVG text."""
    rows = [{"tokens": at, "value": value} for at, value in zip(tokens, values, strict=True)]
    # A curve that stays at 0 is drawn at the bottom.
    top = 1.05 * max(values) or 0.01
    line = (
        chart_of(rows)
        .mark_line(color=LINE, strokeWidth=1.5, point=len(rows) == 1, aria=False)
        .encode(
            x=alt.X("tokens:Q", title="tokens", axis=alt.Axis(format="~s", tickCount=5, grid=False)),
            y=alt.Y(
                "value:Q",
                title=None,
                axis=alt.Axis(format=number, tickCount=5),
                scale=alt.Scale(domain=[0, top]),
            ),
        )
    )
    return svg_of(alt.LayerChart(layer=[line]), f"{title} over tokens, at last {values[-1]:.4g}.", CURVE_HEIGHT)


def density_chart(held_out: dict[str, Any]) -> str:
    """How many features fire on which share of the tokens held out, as SVG text."""
    edges = held_out["density_edges_log10"]
    rows = [
        {"from": 10**low, "to": 10**high, "low": 0, "count": count}
        for low, high, count in zip(edges, edges[1:], held_out["density"], strict=False)
    ]
    scale = alt.Scale(type="log", domain=[10 ** edges[0], 10 ** edges[-1]], nice=False)
    ticks = [10.0**power for power in range(round(edges[0]), round(edges[-1]) + 1)]
    bars = (
        chart_of(rows)
        .mark_bar(color=LINE, opacity=0.85, binSpacing=0.5, aria=False)
        .encode(
            x=alt.X(
                "from:Q",
                title="share of tokens a feature fires on",
                scale=scale,
                axis=alt.Axis(values=ticks, format="~e", grid=False),
            ),
            x2="to:Q",
            y=alt.Y("low:Q", title="features", axis=alt.Axis(tickMinStep=1, tickCount=5, format="d")),
            y2="count:Q",
        )
    )
    least = (
        chart_of([{"at": 1 / held_out["tokens"]}])
        .mark_rule(color=INK, strokeDash=[5, 3], aria=False)
        .encode(x=alt.X("at:Q", scale=scale))
    )
    return svg_of(
        alt.LayerChart(layer=[bars, least]), "Histogram of feature densities on the tokens held out.", CURVE_HEIGHT
    )
