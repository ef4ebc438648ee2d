"""Whether classes and trust hold in other images: two runs of one SAE on disjoint pools, side by side.

    infoscope measure --sae sae --images pool-a --top-images 32 --out a
    infoscope measure --sae sae --images pool-b --top-images 32 --out b
    python benchmarks/repeatability.py --one a --other b --chart docs/trust.svg

Prints how many features get a class, how many of those classed in both differ, and how many get the same class again,
by the posterior that is asked for; the same for the older rules and for a cut on CDS alone, of equal shares; and trust
against what came of it. Several pairs of runs make one table each, and are pooled in the chart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import altair
import numpy as np
import polars as pl
import tyro
from sklearn.metrics import roc_auc_score

import infoscope
from common import print_table
from infoscope.errors import InfoscopeError
from infoscope.measurement.controls import posterior_column
from infoscope.runtime.run import Run
from infoscope.scope.classes import SETTLED

LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
BINS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.97, 1.01)


@dataclass(frozen=True)
class Benchmark:
    """Options of the comparison."""

    one: list[Path]
    """Finished runs on one pool."""
    other: list[Path]
    """The same SAEs on another pool, in the same order."""
    older_one: list[Path] | None = None
    """The runs of ``--one`` judged by the older rules (`infoscope judge RUN --rules thresholds --out OLDER`)."""
    older_other: list[Path] | None = None
    """Those of ``--other``."""
    chart: Path | None = None
    """Where to draw trust against what came of it, as SVG."""


def main(options: Benchmark) -> None:
    if len(options.one) != len(options.other):
        raise InfoscopeError("--one and --other name different numbers of runs; name them in pairs")
    older = list(zip(options.older_one or [], options.older_other or [], strict=True))
    trusted = []
    for number, (one, other) in enumerate(zip(options.one, options.other, strict=True)):
        runs = infoscope.open_run(one), infoscope.open_run(other)
        print(f"{one} and {other}")
        rows = [[f"posterior {level:.2f}", *figures(*(given(run, level) for run in runs))] for level in LEVELS]
        if older:
            of_older = [infoscope.open_run(path) for path in older[number]]
            for quantile in (0.0, 0.5):
                both = (by_older_rules(run, quantile) for run in of_older)
                rows.append([f"older rules, trust above its quantile {quantile}", *figures(*both)])
        shares = given(runs[0], 0.9)
        rows.append(["CDS alone, equal shares", *figures(*(cut(run, shares) for run in runs))])
        print_table(
            "Coverage and disagreement",
            ["by", "classed in one", "of both, other class", "of one, same again", "features in both"],
            rows,
        )
        trusted.append(trust_of(*runs))
        print_table("Trust", ["trust", "features", "mean trust", "same class again"], binned(trusted[-1]))
        print_table("Classes", ["class", "features", "same again", "mean trust", "AUC of trust"], by_class(trusted[-1]))
        print(f"Brier score {brier(trusted[-1])}")
    if options.chart is not None:
        draw(pl.concat(trusted)).save(str(options.chart))


def given(run: Run, level: float) -> np.ndarray:
    """The place of each feature's class in `SETTLED` where its posterior reaches a level, else -1."""
    chances = run.scope.select(posterior_column(name) for name in SETTLED).fill_null(0.0).to_numpy()
    return np.where(chances.max(1) >= level, chances.argmax(1), -1)


def by_older_rules(run: Run, quantile: float) -> np.ndarray:
    """The same by the older rules, of features whose trust is above a quantile of its own."""
    names, trust = run.scope["scope_class"].to_list(), run.scope["trust"].fill_null(0.0).to_numpy()
    places = np.array([SETTLED.index(name) if name in SETTLED else -1 for name in names])
    return np.where(trust >= np.quantile(trust, quantile), places, -1)


def cut(run: Run, like: np.ndarray) -> np.ndarray:
    """The lowest CDS called local and the highest mixed, as many of each as there are local and other classes."""
    cds = run.scope["cds"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    local, others = (like == 0).mean(), (like > 0).mean()
    low, high = np.nanquantile(cds, local), np.nanquantile(cds, 1 - others)
    return np.where(cds <= low, 0, np.where(cds >= high, SETTLED.index("mixed"), -1))


def figures(one: np.ndarray, other: np.ndarray) -> list[str]:
    """Coverage, disagreement and what is kept."""
    ours, both = one >= 0, (one >= 0) & (other >= 0)
    return [
        f"{ours.mean():.1%}",
        f"{(one != other)[both].mean():.1%}",
        f"{(one == other)[ours].mean():.1%}",
        f"{both.sum():,}",
    ]


def trust_of(one: Run, other: Run) -> pl.DataFrame:
    """Class and trust in one run, and whether the other gives the class again."""
    ours = one.scope.select("scope_class", "trust")
    again = pl.Series("again", ours["scope_class"].to_list()) == pl.Series(other.scope["scope_class"].to_list())
    return ours.with_columns(again=again).drop_nulls("trust").filter(pl.col("scope_class").is_in(SETTLED))


def binned(trusted: pl.DataFrame) -> list[list[str]]:
    """Mean trust and what came of it, by bins of trust."""
    rows = []
    for low, high in pairwise(BINS):
        inside = trusted.filter(pl.col("trust") >= low, pl.col("trust") < high)
        if inside.height:
            means = inside.select(pl.col("trust", "again").cast(pl.Float64).mean()).row(0)
            rows.append([f"{low:.2f} to {min(high, 1):.2f}", f"{inside.height:,}", *(f"{mean:.3f}" for mean in means)])
    return rows


def by_class(trusted: pl.DataFrame) -> list[list[str]]:
    """How often each class is given again, and whether trust tells when; AUC with 20 of either outcome."""
    rows = []
    for name in SETTLED:
        own = trusted.filter(scope_class=name)
        if not own.height:
            continue
        again, trust = own["again"].to_numpy(), own["trust"].to_numpy()
        few = min(again.sum(), (~again).sum()) < 20
        auc = "too few" if few else f"{roc_auc_score(again, trust):.2f}"
        rows.append([name, f"{own.height:,}", f"{again.mean():.3f}", f"{trust.mean():.3f}", auc])
    return rows


def brier(trusted: pl.DataFrame) -> str:
    """Of trust, and of the share that each class has."""
    of_trust = trusted.select(((pl.col("trust") - pl.col("again").cast(pl.Float64)) ** 2).mean()).item()
    share = pl.col("again").cast(pl.Float64).mean().over("scope_class")
    of_share = trusted.select(((share - pl.col("again").cast(pl.Float64)) ** 2).mean()).item()
    return f"{of_trust:.4f}, and {of_share:.4f} for the share of each class that is given again"


def draw(trusted: pl.DataFrame) -> altair.LayerChart:
    """Trust against the share that got the class again, with two standard errors."""
    cuts = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99]
    bins = (
        trusted.with_columns(bin=pl.col("trust").cut(cuts))
        .group_by("bin")
        .agg(pl.col("trust").mean(), pl.col("again").cast(pl.Float64).mean(), features=pl.len())
    )
    error = 2 * (pl.col("again") * (1 - pl.col("again")) / pl.col("features")).sqrt()
    bins = bins.filter(pl.col("features") >= 20).with_columns(
        low=(pl.col("again") - error).clip(0, 1), high=(pl.col("again") + error).clip(0, 1)
    )
    axis = altair.Scale(domain=(0.3, 1))
    base = altair.Chart(bins.drop("bin"), width=340, height=300).encode(altair.X("trust", title="trust", scale=axis))
    even = altair.Chart(pl.DataFrame({"trust": [0.3, 1.0], "again": [0.3, 1.0]})).mark_line(strokeDash=[4, 4])
    bars = base.mark_rule().encode(altair.Y("low", title="share given the same class again"), altair.Y2("high"))
    points = base.mark_point(filled=True, opacity=1).encode(
        altair.Y("again", scale=axis), altair.Size("features", title="features")
    )
    layers = even.encode(x="trust", y="again") + bars + points
    # The legend's title is measured too short.
    chart: altair.LayerChart = layers.properties(padding={"left": 5, "top": 5, "right": 20, "bottom": 5})
    return chart


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
