"""The tables and the picture of docs/reading.md: what a finished run says, class by class.

infoscope measure --sae SAE --images photographs --out run
python benchmarks/reading.py run --chart docs/reading.svg
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import altair
import polars as pl
import tyro

from infoscope.measurement.result import Scope
from infoscope.runtime.run import open_run
from infoscope.scope.classes import CLASSES, SETTLED

TILE = 74


@dataclass(frozen=True)
class Benchmark:
    """Options of the reading."""

    run: Annotated[Path, tyro.conf.Positional]
    """A finished run."""
    chart: Path = Path("docs/reading.svg")
    """Where to write the picture, as SVG."""
    pairs: int = 5
    """Top images shown of each feature."""


def main(options: Benchmark) -> None:
    scope = Scope.load(options.run)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, float_precision=3):
        print(by_class(scope.table))
    print(scope.partition().sentence())
    run = scope.controls().to_json()
    print({name: run[name] for name in ("reliability", "disagreeing") if name in run})
    shown = [feature for name in SETTLED if (feature := usual(scope.table, name)) is not None]
    for row in shown:
        print(row["scope_class"], row["feature"], f"CDS {row['cds']}, trust {row['trust']:.2f}:", row["class_evidence"])
    grid = open_run(options.run).manifest.model.grid
    options.chart.parent.mkdir(parents=True, exist_ok=True)
    draw(shown, scope.maps, grid, scope.manifest.options["shift"], options.pairs).save(str(options.chart))


def by_class(table: pl.DataFrame) -> pl.DataFrame:
    """Shares, and medians of what tells the classes apart."""
    names = ("cds", "displacement", "pairs_following", "position_control", "effective_area", "trust")
    median = [pl.col(name).median() for name in names]
    found = table.group_by("scope_class").agg(pl.len().alias("features"), *median)
    order = pl.DataFrame({"scope_class": CLASSES})
    return order.join(found, on="scope_class", how="left").with_columns(
        (100 * pl.col("features") / table.height).alias("per cent")
    )


def usual(table: pl.DataFrame, name: str) -> dict[str, Any] | None:
    """Of the surer half of a class, the feature whose displacement is nearest to the class's median."""
    of_class = table.filter(scope_class=name)
    if of_class.is_empty():
        return None
    surer = of_class.filter(pl.col("trust") >= pl.col("trust").median())
    middle = of_class["displacement"].median()
    return surer.sort((pl.col("displacement") - middle).abs(), "feature", nulls_last=True).row(0, named=True)


def draw(features: list[dict[str, Any]], maps: pl.DataFrame, grid: int, shift: int, pairs: int) -> altair.VConcatChart:
    """A row a feature, a column an image: both crops' maps, with the part that the crops share framed."""
    rows = []
    for row in features:
        own = maps.filter((pl.col("feature") == row["feature"]) & (pl.col("rank") < pairs)).sort("rank", "crop")
        tiles = [tile(map_, grid, shift) for map_ in own.iter_rows(named=True)]
        rows.append(
            altair.hconcat(*tiles, spacing=3).properties(
                title=altair.Title(f"{row['scope_class']}: feature {row['feature']}", anchor="start", fontSize=12)
            )
        )
    return altair.vconcat(*rows, spacing=10)


def tile(map_: dict[str, Any], grid: int, shift: int) -> altair.LayerChart:
    """One crop's map on its own grid."""
    cells = pl.DataFrame(
        {"patch": map_["patch"], "code": map_["value"]}, schema={"patch": pl.Int64, "code": pl.Float64}
    )
    cells = cells.with_columns(
        (pl.col("patch") % grid).alias("x"), (pl.col("patch") // grid).alias("y"), pl.col("code") / pl.max("code")
    ).with_columns(pl.col("x", "y") + 0.0, (pl.col("x") + 1).alias("x2"), (pl.col("y") + 1).alias("y2"))
    begin = shift if map_["crop"] == 0 else 0
    frame = pl.DataFrame({"x": [begin], "x2": [begin + grid - shift], "y": [begin], "y2": [begin + grid - shift]})
    scale = altair.Scale(domain=[0, grid], nice=False)
    x = altair.X("x:Q", scale=scale, axis=None)
    y = altair.Y("y:Q", scale=altair.Scale(domain=[grid, 0], nice=False), axis=None)
    colour = altair.Color("code:Q", scale=altair.Scale(scheme="blues", domain=[0, 1]), legend=None)
    filled = altair.Chart(cells).mark_rect().encode(x=x, x2="x2:Q", y=y, y2="y2:Q", color=colour)
    framed = altair.Chart(frame).mark_rect(fill=None, stroke="#c2570c").encode(x=x, x2="x2:Q", y=y, y2="y2:Q")
    both: altair.LayerChart = (filled + framed).properties(width=TILE, height=TILE)
    return both


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
