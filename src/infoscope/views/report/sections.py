"""Sections of the overview: controls, cross-checks, outlier tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from markupsafe import Markup

from infoscope.analyses.outliers.record import OutlierRecord
from infoscope.analyses.outliers.result import BLOCKS, NORMS, OUTLIERS_FILE, POSITIONS
from infoscope.errors import InfoscopeError
from infoscope.measurement.controls import RunControls, run_controls
from infoscope.measurement.summary import Settings
from infoscope.runtime.run import Run
from infoscope.runtime.schema import read_table
from infoscope.runtime.seal import read_whole
from infoscope.runtime.typed import from_json
from infoscope.scope.classes import CLASSES
from infoscope.scope.reliability import spearman
from infoscope.views.report.charts import INK, ON_LIGHT, chart_of, stacked_bars, svg_of
from infoscope.views.report.outliers import norm_chart, place_chart, share_chart

COLOURS = dict(ON_LIGHT)
# Our choices: bars of 0.05, up to one and a half times what unrelated pictures give.
BAR = 0.05
UPPER = 1.5


@dataclass(frozen=True)
class ClassSection:
    """What the section prints.

    Attributes:
        controls: the numbers.
        rows: class, colour, number of features, share.
        spectrum: histogram of the calibrated score by class, as SVG; empty where no feature has one.
        calibrated: how many features have one.
    """

    controls: RunControls
    rows: list[tuple[str, str, int, float]]
    spectrum: Markup
    calibrated: int


def class_section(run: Run, settings: Settings) -> ClassSection:
    """Gather the section from a run's table."""
    controls = run_controls(run.scope, settings.top_images)
    total = max(run.scope.height, 1)
    rows = [(name, COLOURS[name], count, count / total) for name, count in controls.classes.items()]
    scored = run.scope.filter(pl.col("cds_calibrated").is_not_null())
    spectrum = calibrated_histogram(scored) if scored.height else ""
    return ClassSection(controls, rows, Markup(spectrum), scored.height)


def calibrated_histogram(scored: pl.DataFrame) -> str:
    """Histogram of the calibrated score, classes stacked, with a line where unrelated pictures lie, as SVG text.

    Args:
        scored: rows of ``scope.parquet`` with a calibrated score; at least one.
    """
    edges = np.linspace(0, UPPER, round(UPPER / BAR) + 1)
    # What lies beyond the axis is counted at its end.
    values = np.minimum(scored["cds_calibrated"].to_numpy(), UPPER)
    bars = stacked_bars(values, scored["scope_class"].to_list(), CLASSES, edges)
    x_scale = alt.Scale(domain=[0, UPPER], nice=False)
    colours = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    unrelated = chart_of([{"at": 1.0}]).encode(x=alt.X("at:Q", scale=x_scale))
    layers: list[alt.Chart | alt.LayerChart] = [
        chart_of(bars)
        .mark_bar(binSpacing=0.5, opacity=0.85, aria=False)
        .encode(
            x=alt.X("from:Q", title="calibrated score", scale=x_scale, axis=alt.Axis(tickCount=6, grid=False)),
            x2="to:Q",
            y=alt.Y("low:Q", title="features", axis=alt.Axis(tickMinStep=1, tickCount=5, format="d")),
            y2="high:Q",
            color=alt.Color("group:N", scale=colours, legend=None),
        ),
        unrelated.mark_rule(color=INK, strokeWidth=1.25, strokeDash=[5, 3], aria=False),
        unrelated.mark_text(text="unrelated pictures", fontSize=12, color=INK, align="left", dx=5, aria=False).encode(
            y=alt.value(8)
        ),
    ]
    return svg_of(
        alt.LayerChart(layer=layers), f"Histogram of the calibrated score over {scored.height} features, by class."
    )


def cross_check_rows(run: Run) -> list[tuple[str, str]]:
    """A name and a sentence for the curve and for each check; none where none was asked for."""
    curve, checks = run.shift_curve, run.cross_checks
    rows = [] if curve is None else [("shift curve", curve_sentence(curve))]
    if checks is not None:
        scores = run.scope.select("feature", pl.col("cds").alias("main"))
        for (name,), check in checks.group_by(["check"], maintain_order=True):
            rows.append((str(name), check_sentence(check.join(scores, on="feature", maintain_order="left"))))
    return rows


def curve_sentence(curve: pl.DataFrame) -> str:
    """Median distances in patches, over the features that are scored at every shift.

    Example:
        >>> rows = {"feature": [0, 0, 1, 1], "shift": [1, 2, 1, 2], "cds_patches": [0.5, 1.5, 2.0, None]}
        >>> curve_sentence(pl.DataFrame(rows))
        'median patches moved at shift 1: 0.50, 2: 1.50 (1 feature scored at every shift)'
    """
    shifts = curve["shift"].n_unique()
    whole = curve.drop_nulls("cds_patches").filter(pl.len().over("feature") == shifts)
    if whole.is_empty():
        return "no feature is scored at every shift"
    medians = whole.group_by("shift").agg(pl.col("cds_patches").median()).sort("shift")
    count = whole["feature"].n_unique()
    moved = ", ".join(f"{shift}: {median:.2f}" for shift, median in medians.iter_rows())
    return f"median patches moved at shift {moved} ({count:,} feature{'s' * (count != 1)} scored at every shift)"


def check_sentence(check: pl.DataFrame) -> str:
    """One check's median beside the score's, and whether the two order the features alike.

    Args:
        check: rows of one check, with the score of `scope.parquet` as ``main``.

    Example:
        >>> rows = {"main": [0.1, 0.2, 0.4, 0.3], "cds": [0.2, 0.3, 0.9, None], "difference": [-0.1, -0.1, -0.5, None]}
        >>> check_sentence(pl.DataFrame(rows))
        'median CDS 0.300 (score 0.200), difference -0.100, rank correlation 1.00 over 3 features'
    """
    both = check.drop_nulls(["main", "cds"])
    if both.is_empty():
        return "no feature has both scores"
    score, other = (np.median(both[name].to_numpy()) for name in ("main", "cds"))
    known = both["difference"].drop_nulls()
    difference = f", difference {np.median(known.to_numpy()):+.3f}" if len(known) else ""
    correlation = spearman(both["main"].to_numpy(), both["cds"].to_numpy())
    alike = "no rank correlation" if np.isnan(correlation) else f"rank correlation {correlation:.2f}"
    return f"median CDS {other:.3f} (score {score:.3f}){difference}, {alike} over {both.height:,} features"


@dataclass(frozen=True)
class OutlierSection:
    """What the section prints.

    Attributes:
        record: ``outliers.json``.
        charts: a drawing and its caption each.
    """

    record: dict[str, Any]
    charts: list[tuple[Markup, str]]


def outlier_section(run: Run) -> OutlierSection | None:
    """The section, or None where no analysis of outlier tokens is in the run.

    Raises:
        InfoscopeError: there is one that cannot be read.
    """
    folder = run.path / "outliers"
    if not (folder / OUTLIERS_FILE).is_file():
        return None
    again = "restore it, or run `infoscope outliers` again"
    record = read_whole(folder / OUTLIERS_FILE, again)
    try:
        from_json(OutlierRecord, record, other_entries=True, undefined=True)
    except ValueError as error:
        raise InfoscopeError(f"{folder / OUTLIERS_FILE} is no record of outlier tokens ({error}); {again}") from error
    model = record["model"]
    limits = {"patch": model["grid"] ** 2}
    blocks = read_table(folder / "blocks.parquet", BLOCKS)
    norms = read_table(folder / "norms.parquet", NORMS)
    positions = read_table(folder / "positions.parquet", POSITIONS, limits=limits, key=("block", "patch"))
    if model["block"] not in positions["block"] or not set(norms["block"]) <= set(blocks["block"]):
        raise InfoscopeError(f"{folder / 'positions.parquet'} is not of the blocks of {OUTLIERS_FILE}; {again}")
    kind = "outlier tokens" if record["presence"]["kind"] == "outlier" else "the tail"
    places = place_chart(positions, model["block"], model["grid"], record["sample"], kind)
    charts = [
        (share_chart(blocks), "Share of the patch tokens above each cutoff, by block. Dashed: the share above 3 times "
         "the median from which a block counts as having outlier tokens."),
        (norm_chart(norms, blocks), "Norms of the patch tokens at each block, in multiples of its median; darker is "
         "more tokens. Dashed: 3 times the median."),
        (places, f"How often each patch of the full view is of {kind} at block {model['block']}."),
    ]  # fmt: skip
    return OutlierSection(record, [(Markup(drawing), caption) for drawing, caption in charts])
