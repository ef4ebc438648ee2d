"""The charts of an analysis of outlier tokens: as SVG files beside its tables, and in the run's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
from markupsafe import Markup

from infoscope.analyses.outliers.cutoffs import LONG, PRESENT_SHARE
from infoscope.analyses.outliers.record import OutlierRecord
from infoscope.analyses.outliers.result import BLOCKS, NORMS, OUTLIERS_FILE, POSITIONS, OutlierResult
from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import atomic_write
from infoscope.runtime.columns import read_table
from infoscope.runtime.run import Run
from infoscope.runtime.seal import read_record
from infoscope.views.report.charts import GLOBAL, INK, LOCAL, QUIET, chart_of, svg_of

NAMES = {
    "long": "3 x median",
    "std": "mean + 3 std",
    "value": "fixed",
    "percentile": "98th percentile",
    "valley": "valley",
}
COLOURS = [GLOBAL, LOCAL, "#6b5a2e", "#667078", "#3d7a4a"]


def write_figures(result: OutlierResult, folder: Path) -> list[Path]:
    """Write ``share.svg``, ``norms.svg`` and ``places.svg``.

    Returns:
        Their paths.

    Raises:
        InfoscopeError: the folder cannot be written.
    """
    written = []
    for name, drawing, _ in outlier_charts(result.record, result.blocks, result.norms, result.positions):
        path = folder / f"{name}.svg"
        with atomic_write(path) as temporary:
            # A file of its own needs the name space that a page provides.
            text = drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
            temporary.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def outlier_section(run: Run) -> dict[str, Any] | None:
    """What the report prints: the ``record`` and the ``charts`` with their captions; None where nothing was analysed.

    Raises:
        InfoscopeError: there is an analysis that cannot be read.
    """
    folder = run.path / "outliers"
    file, again = folder / OUTLIERS_FILE, "restore it, or run `infoscope outliers` again"
    if not file.is_file():
        return None
    record = read_record(OutlierRecord, file, "outlier tokens", again, undefined=True)
    limits = {"patch": record.model.grid**2}
    blocks = read_table(folder / "blocks.parquet", BLOCKS)
    norms = read_table(folder / "norms.parquet", NORMS)
    positions = read_table(folder / "positions.parquet", POSITIONS, limits=limits, key=("block", "patch"))
    if record.model.block not in positions["block"] or not set(norms["block"]) <= set(blocks["block"]):
        raise InfoscopeError(f"{folder / 'positions.parquet'} is not of the blocks of {OUTLIERS_FILE}; {again}")
    charts = outlier_charts(record, blocks, norms, positions)
    return {"record": record, "charts": [(Markup(drawing), caption) for _, drawing, caption in charts]}


def outlier_charts(
    record: OutlierRecord, blocks: pl.DataFrame, norms: pl.DataFrame, positions: pl.DataFrame
) -> list[tuple[str, str, str]]:
    """The charts: a name, SVG text and a caption each."""
    block = record.model.block
    kind = "outlier tokens" if record.presence.kind == "outlier" else "the tail"
    places = place_chart(positions, block, record.model.grid, record.sample, kind)
    return [
        ("share", share_chart(blocks), "Share of the patch tokens above each cutoff, by block. Dashed: the share above "
         "3 times the median from which a block counts as having outlier tokens."),
        ("norms", norm_chart(norms, blocks), "Norms of the patch tokens at each block, in multiples of its median; "
         "darker is more tokens. Dashed: 3 times the median."),
        ("places", places, f"How often each patch of the full view is of {kind} at block {block}."),
    ]  # fmt: skip


def share_chart(blocks: pl.DataFrame) -> str:
    """Share of the patch tokens above each cutoff, by block, as SVG text."""
    cutoffs = [name for name in NAMES if name == "long" or blocks[f"share_{name}"].count()]
    rows = [
        {"block": row["block"], "share": share, "cutoff": NAMES[name]}
        for row in blocks.iter_rows(named=True)
        for name in cutoffs
        # A share of 0 has no place on a logarithmic axis.
        if (share := row["long_share" if name == "long" else f"share_{name}"])
    ]
    names = [NAMES[name] for name in cutoffs]
    x = alt.X("block:Q", title="block", axis=alt.Axis(format="d", tickMinStep=1, grid=False))
    y = alt.Y("share:Q", title="share of the patch tokens (log scale)", scale=alt.Scale(type="log"))
    lines = (
        chart_of(rows)
        .mark_line(point=True, aria=False)
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "cutoff:N",
                title="above",
                scale=alt.Scale(domain=names, range=COLOURS[: len(names)]),
                legend=alt.Legend(orient="bottom", columns=3),
            ),
        )
    )
    rule = chart_of([{"share": PRESENT_SHARE}]).mark_rule(color=INK, strokeDash=[5, 3], aria=False).encode(y=y)
    return svg_of(
        alt.LayerChart(layer=[lines, rule]),
        f"Share of the patch tokens above each cutoff by block; the dashed line is the share above {LONG:g} times the "
        "median from which a block has outlier tokens.",
    )


def norm_chart(norms: pl.DataFrame, blocks: pl.DataFrame) -> str:
    """How the norms are distributed at each block, in multiples of its median, as SVG text."""
    joined = norms.join(blocks.select("block", "median", total="tokens"), on="block").filter(pl.col("median") > 0)
    bars = joined.select(
        left=pl.col("block") - 0.5,
        right=pl.col("block") + 0.5,
        low=pl.col("lower") / pl.col("median"),
        high=pl.col("upper") / pl.col("median"),
        share=pl.col("tokens") / pl.col("total"),
    )
    x_scale = alt.Scale(domain=[-0.5, blocks.height - 0.5], nice=False)
    ends = [value for value in (bars["low"].min(), bars["high"].max()) if isinstance(value, float)]
    y_scale = alt.Scale(type="log", domain=[min(ends, default=1.0), max([*ends, 1.2 * LONG])], nice=False)
    x = alt.X("left:Q", title="block", scale=x_scale, axis=alt.Axis(format="d", tickMinStep=1, grid=False))
    layer = (
        chart_of(bars.to_dicts())
        .mark_rect(aria=False)
        .encode(
            x=x,
            x2="right:Q",
            y=alt.Y("low:Q", title="norm / median (log scale)", scale=y_scale),
            y2="high:Q",
            color=alt.Color("share:Q", scale=alt.Scale(type="log", range=["#dfe3e6", "#3d454c"]), legend=None),
        )
    )
    rule = chart_of([{"low": LONG}]).mark_rule(color=COLOURS[0], strokeDash=[5, 3], aria=False)
    return svg_of(
        alt.LayerChart(layer=[layer, rule.encode(y=alt.Y("low:Q", scale=y_scale))]),
        f"Distribution of patch-token norms by block, in multiples of the median; darker is more tokens, the dashed "
        f"line is {LONG:g} times the median.",
    )


def place_chart(positions: pl.DataFrame, block: int, grid: int, images: int, kind: str) -> str:
    """How often each patch is above the cutoff at a block, as SVG text.

    Args:
        positions: ``positions.parquet``.
        block: of the analyses.
        grid: p, patches a side.
        images: of the sample.
        kind: what is above the cutoff, in words.
    """
    here = positions.filter(pl.col("block") == block)
    cells = here.select(
        column=pl.col("patch") % grid,
        row=pl.col("patch") // grid,
        share=pl.col("outliers") / images,
    ).with_columns(right=pl.col("column") + 1, below=pl.col("row") + 1)
    scale = alt.Scale(domain=[0, grid], nice=False)
    axis = alt.Axis(format="d", grid=False, tickMinStep=1)
    layer = (
        chart_of(cells.to_dicts())
        .mark_rect(aria=False)
        .encode(
            x=alt.X("column:Q", scale=scale, axis=axis, title="column"),
            x2="right:Q",
            y=alt.Y("row:Q", scale=alt.Scale(domain=[grid, 0], nice=False), axis=axis, title="row"),
            y2="below:Q",
            color=alt.Color(
                "share:Q",
                title="share of the images",
                scale=alt.Scale(range=["#f4f5f6", COLOURS[0]], interpolate="rgb", domainMin=0),
                legend=alt.Legend(orient="bottom", format=".1%", labelColor=QUIET),
            ),
        )
    )
    return svg_of(alt.LayerChart(layer=[layer]), f"How often each patch is of {kind} at block {block}.", height=430)
