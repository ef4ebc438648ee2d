"""What ``infoscope select`` prints."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from rich.table import Table

from infoscope.analyses.probes.result import titled
from infoscope.analyses.selection.result import FEATURES_FILE, Selection
from infoscope.cli.output import console
from infoscope.cli.probe_summary import score
from infoscope.cli.summary import print_rows


def print_selection(selection: Selection, out: Path) -> None:
    """Print the curve, and the set that is best on held-out images."""
    record, choice = selection.record, selection.choice
    metric = record.metric
    console().print(_curve(selection))
    if choice.removed:
        found = f"{choice.name}: {len(choice.removed):,} features"
    else:
        found = "removing nothing: no set scores higher on the held-out images"
    interval = (
        ""
        if choice.difference_lower is None or choice.difference_upper is None
        else f", 95 % interval of the difference {choice.difference_lower:+.4f} to {choice.difference_upper:+.4f}"
    )
    print_rows(
        [
            ("best", found),
            (
                "held out",
                f"{titled(metric)}: {score(metric, choice.validation)}, unedited "
                f"{score(metric, choice.validation_untouched)}; the choice was made here, so the gain is flattered",
            ),
            (
                "test",
                f"{titled(metric)}: {score(metric, choice.test)}, unedited {score(metric, choice.test_untouched)}"
                f"{interval}",
            ),
            *[("note", note) for note in record.notes],
            ("written", f"{out}; remove the set elsewhere with --remove list:{out / FEATURES_FILE}"),
        ]
    )


def _curve(selection: Selection) -> Table:
    metric, column = selection.record.metric, selection.options["column"]
    table = Table(
        box=None, pad_edge=False, title=f"{titled(metric)}, without features by {column}", title_justify="left"
    )
    table.add_column("removed", no_wrap=True)
    for title in ("features", "mass", "held out", "test", "random of equal size", "of equal mass"):
        table.add_column(title, justify="right")
    steps = selection.steps
    for row in steps.filter(pl.col("match").is_null()).to_dicts():
        beside = [
            _random(
                steps,
                metric,
                (pl.col("match") == match) & pl.col("end").eq_missing(row["end"]) & (pl.col("share") == row["share"]),
            )
            for match in ("size", "mass")
        ]
        name = "nothing" if row["end"] is None else f"{row['end']} {row['share']:.0%}"
        table.add_row(
            name,
            f"{row['features']:,}",
            f"{row['mass']:.1%}",
            score(metric, row["validation"]),
            score(metric, row["test"]),
            *beside,
        )
    return table


def _random(steps: pl.DataFrame, metric: str, which: pl.Expr) -> str:
    """Mean test score of the random sets beside a step."""
    found = steps.filter(which)["test"]
    return score(metric, float(found.mean())) if len(found) else ""  # type: ignore[arg-type]
