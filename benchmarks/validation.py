"""Where the measurement breaks on planted truth: the chart of docs/validation.md, from what `infoscope validate` wrote.

infoscope validate --images photographs --out validation
python benchmarks/validation.py validation --chart docs/validation.svg
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import altair
import polars as pl
import tyro

from infoscope.analyses.validation.validate import load_validation
from infoscope.errors import InfoscopeError

AXES = {
    "noise": "error of codes that are on, in peaks",
    "background": "noise on all other codes, in peaks",
    "top_images": "top images, k",
    "shift": "shift, in patches",
    "cosine": "cosine of the dictionary with the truth",
    "photographs": "photographs",
}
FIGURES = {"auc": "AUC, global against local", "balanced_accuracy": "classes right (balanced)"}


@dataclass(frozen=True)
class Benchmark:
    """Options of the chart."""

    validation: Annotated[Path, tyro.conf.Positional]
    """A finished directory of `infoscope validate`, with its curves."""
    chart: Path = Path("docs/validation.svg")
    """Where to write the chart, as SVG."""


def main(options: Benchmark) -> None:
    cases = load_validation(options.validation).cases
    # The main case with the planted dictionary is a point of every curve.
    main_cases = cases.filter((pl.col("axis") == "main") & (pl.col("dictionary") == "planted") & (pl.col("seed") == 0))
    main_cases = main_cases.filter((pl.col("world") == "planted") & ~pl.col("outlier_model"))
    # Curves are of the first family's two basic settings.
    of_curves = pl.col("family").fill_null("patches") == "patches"
    main_cases = main_cases.filter(of_curves & pl.col("setting").is_in(["default", "adversarial"]))
    panels = []
    for axis, title in AXES.items():
        curve = pl.concat([main_cases, cases.filter(pl.col("axis") == axis)])
        panels.append(draw(curve.select("setting", pl.col(axis).cast(pl.Float64).alias("x"), *FIGURES), title))
    if cases.filter(pl.col("axis") != "main").is_empty():
        raise InfoscopeError(f"{options.validation} has no curves; validate without --no-curves")
    options.chart.parent.mkdir(parents=True, exist_ok=True)
    altair.concat(*panels, columns=3).save(str(options.chart))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=140):
        print(cases.select("world", "setting", "seed", "dictionary", "axis", *AXES, "auc", "balanced_accuracy"))


def draw(curve: pl.DataFrame, title: str) -> altair.LayerChart:
    """Both figures along one axis, a line a setting."""
    long = curve.unpivot(list(FIGURES), index=["setting", "x"], variable_name="figure", value_name="y").drop_nulls()
    long = long.with_columns(pl.col("figure").replace(FIGURES))
    base = altair.Chart(long, width=220, height=170).encode(
        altair.X("x", title=title, scale=altair.Scale(zero=False, nice=True)),
        altair.Y("y", title=None, scale=altair.Scale(domain=(0, 1))),
        altair.Color("setting", title=None, legend=altair.Legend(orient="bottom")),
    )
    dashes = altair.Legend(orient="bottom", labelLimit=220, symbolStrokeColor="black", symbolType="stroke")
    lines = base.mark_line().encode(altair.StrokeDash("figure", title=None, legend=dashes))
    both: altair.LayerChart = lines + base.mark_point(filled=True, size=30, opacity=1).encode(altair.Detail("figure"))
    return both


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
