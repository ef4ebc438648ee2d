"""What ``infoscope probe`` prints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from infoscope.analyses.probes.result import SHARES, ProbeRecord, ProbeResult, short_name, titled
from infoscope.cli.ladder_summary import Show, ladder_notes, ladder_tables, share
from infoscope.cli.output import console, plain_table, print_rows
from infoscope.measurement.shared_images import shared_lines

SITES = {
    "rerun": "rerun: the rest of the network runs on from the edited tokens",
    "site": "site: the block's own edited tokens are read",
}
# Scores of a task that the table shows.
SHOWN = 2


def print_probe(result: ProbeResult, out: Path) -> None:
    """Print the table, and what it was made of."""
    record = result.record
    removal = record.options["removal"]
    print_rows(_inputs(record))
    terminal = console()
    for site in result.table["site"].unique(maintain_order=True):
        terminal.print(scores_table(result, site))
    ladder = result.ladder
    for table in ladder_tables(ladder, record.metric, titled(record.metric), _shown(record.metric)):
        terminal.print(table)
    print_rows(
        [
            *[
                ("skipped", f"{len(images)} unreadable images of {split}")
                for split, images in record.skipped.items()
                if images
            ],
            *[("test images", line) for line in shared_lines(record.shared_images)],
            *[("note", note) for note in record.notes],
            (
                "reading",
                "difference is to the untouched model. ± is the standard deviation over "
                f"{removal['random_draws']} draws of a random group; in brackets the 95 % interval over the test "
                "images, heads as they are trained. Other scores are in variants.parquet.",
            ),
            *ladder_notes(ladder),
            ("written", str(out)),
        ]
    )


def _shown(metric: str) -> Show:
    """A score of a metric as text."""

    def show(value: float | None, signed: bool) -> str:
        text = score(metric, value)
        return f"+{text}" if signed and text and not text.startswith("-") else text

    return show


def _inputs(record: ProbeRecord) -> list[tuple[str, str]]:
    removal = record.options["removal"]
    splits = [f"{split} {value['images']:,} ({value['source']})" for split, value in record.data["splits"].items()]
    return [
        ("task", f"{record.task}: {', '.join(splits)}"),
        ("model", f"{record.model.name}, edited at block {record.model.block}, {record.token_set} tokens"),
        ("SAE", f"{record.dictionary.name}, {record.dictionary.features:,} features"),
        ("removal", f"{removal['method']}, {removal['replacement']}"),
        ("recipe", f"{record.recipe['name']}, version {record.recipe['version']}; chosen on held-out images"),
    ]


def scores_table(result: ProbeResult, site: str) -> Table:
    """One row a variant of a site, or a random control with all its draws."""
    record, rows = result.record, result.table.filter((pl.col("site") == site) & pl.col("side").is_null())
    # The others are in the files: a terminal is narrow.
    metrics = rows["metric"].unique(maintain_order=True).to_list()[:SHOWN]
    heads = ("", "features", "mass", "energy", *(titled(metric) for metric in metrics), "difference")
    table = plain_table(SITES[site], heads, unbroken=[0])
    for baseline in record.baselines:
        values = [score(metric, baseline.test.get(metric)) for metric in metrics]
        table.add_row(f"no model, {baseline.name}", "", "", "", *values, "")
    for (name,), group in rows.group_by(["name"], maintain_order=True):
        by_metric = {row["metric"]: row for row in group.to_dicts()}
        first = by_metric[record.metric]
        values = [(with_spread if metric == record.metric else _alone)(metric, by_metric[metric]) for metric in metrics]
        removed = ("", "") if not first["features"] else (f"{first['features']:,.0f}", f"{first['mass']:.1%}")
        energy = share(first["energy_share"]) if first["energy_share"] else ""
        table.add_row(short_name(str(name)), *removed, energy, *values, _difference(record.metric, first))
    return table


def score(metric: str, value: float | None) -> str:
    """A score as it is printed: shares in per cent.

    Example:
        >>> score("top-1", 0.7482), score("RMSE", 0.8841), score("top-5", None)
        ('74.82', '0.8841', '')
    """
    if value is None or math.isnan(value):
        return ""
    return f"{100 * value:.2f}" if metric in SHARES else f"{value:.4f}"


def _alone(metric: str, row: dict[str, Any]) -> str:
    return score(metric, row["score"])


def with_spread(metric: str, row: dict[str, Any]) -> str:
    """A score with its spread over draws, where there are several."""
    text = score(metric, row["score"])
    if row["spread"] is None:
        return text
    spread = f"{100 * row['spread']:.2f}" if metric in SHARES else f"{row['spread']:.4f}"
    return f"{text} ± {spread}"


def _difference(metric: str, row: dict[str, Any]) -> str:
    if row["difference"] is None or not (row["features"] or row["difference"]):
        return ""
    factor, digits = (100, 2) if metric in SHARES else (1, 4)
    text = f"{factor * row['difference']:+.{digits}f}"
    if row["difference_lower"] is None:
        return text
    return f"{text} ({factor * row['difference_lower']:+.{digits}f} to {factor * row['difference_upper']:+.{digits}f})"
