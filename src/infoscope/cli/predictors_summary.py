"""What ``infoscope predictors`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from infoscope.analyses.predictors.config import COSINE, MADE_OF_CDS, MEASURES
from infoscope.analyses.predictors.relations import ALL_OTHERS, EVERYWHERE
from infoscope.analyses.predictors.result import PredictorResult
from infoscope.cli.ladder_summary import NO_FAIR_CONTROL
from infoscope.cli.output import WIDE, cell, console, plain_table, print_rows
from infoscope.measurement.shared_images import shared_lines

# As a heading has room for them.
SHORT = {
    "cds": "CDS",
    "cds_calibrated": "calibrated",
    "cosine_distance": "1 - cos",
    "jensen_shannon": "JS",
    "effective_area": "area",
    "entropy": "entropy",
    "moran": "Moran",
    "peak_displacement": "peak",
    "density": "density",
    "cds_beyond_cosine": "CDS beyond 1 - cos",
}
# Our choice: a difference is marked where chance gives one such mark in the whole table in twenty tables.
MARKED = 0.05


def print_predictors(result: PredictorResult, out: Path) -> None:
    """Print what goes with what, what repeats, what CDS adds, and what removals do."""
    wide = console(WIDE)
    wide.print(correlation_table(result))
    wide.print(additions_table(result))
    for head in ("own", "kept"):
        wide.print(effects_table(result, head))
    wide.print(ends_table(result))
    wide.print(sets_table(result))
    print_rows([*summary_rows(result), ("written", str(out))])


def correlation_table(result: PredictorResult) -> Table:
    """Rank correlations, and on the diagonal how far each measure repeats."""
    found = {(row["first"], row["second"]): row["spearman"] for row in result.correlations.to_dicts()}
    found |= {(second, first): value for (first, second), value in found.items()}
    found |= {(row["measure"],) * 2: row["reliability"] for row in result.reliability.to_dicts()}
    heads = ("rank correlation", *(SHORT[name] for name in MEASURES))
    table = plain_table("Measures with each other; on the diagonal, reliability between halves", heads, unbroken=[0])
    for first in MEASURES:
        table.add_row(SHORT[first], *(cell(found.get((first, second)), ".2f", "-") for second in MEASURES))
    return table


def additions_table(result: PredictorResult) -> Table:
    """What explains CDS, over all features and over parts of them."""
    heads = ("features", "number", "by 1 - cos", "by all others", "CDS repeats", "the rest repeats", "CDS adds")
    table = plain_table("Share of the variance of CDS's ranks that others explain", heads, unbroken=[0])
    for (where,), rows in result.additions.group_by(["features_of"], maintain_order=True):
        by = {row["by"]: row for row in rows.to_dicts()}
        every, cosine = by[ALL_OTHERS], by[COSINE]
        table.add_row(
            _short(str(where)),
            f"{every['features']:,}",
            cell(cosine["explained"], ".0%"),
            cell(every["explained"], ".0%"),
            cell(every["cds_reliability"], ".2f"),
            cell(every["left_reliability"], ".2f"),
            cell(every["adds"], ".1%"),
        )
    return table


def effects_table(result: PredictorResult, head: str) -> Table:
    """Top-1 without subsets of each group less that without disjoint sets of equal energy, in points."""
    rows = result.effects.filter((pl.col("head") == head) & (pl.col("metric") == "top-1"))
    steps = sorted(rows["step"].unique().to_list())
    which = "a head of its own for each set" if head == "own" else "the head of the unedited tokens"
    heads = ("features", *(f"{100 * step:g}%" for step in steps))
    title = f"Top-1 at equal removed energy, subsets less disjoint sets, in points: {which}"
    table = plain_table(title, heads, unbroken=[0])
    for (measure, part), of_part in rows.group_by(["measure", "part"], maintain_order=True):
        by_step = {row["step"]: row for row in of_part.to_dicts()}
        count = result.record.options["quantiles"]
        name = str(measure) if part is None else f"{SHORT[str(measure)]}, {part} of {count}"
        table.add_row(name, *(difference(by_step[step]) for step in steps))
    return table


def ends_table(result: PredictorResult) -> Table:
    """Top-1 without subsets of the highest group less that without those of the lowest, in points, by both heads."""
    rows = result.ends.filter(pl.col("metric") == "top-1")
    steps = result.record.options["steps"]
    heads = ("measure", "head", *(f"{100 * step:g}%" for step in steps))
    title = "Top-1 at equal removed energy, highest group less lowest, in points"
    table = plain_table(title, heads, left=2, unbroken=[0])
    for measure in result.record.options["group_by"]:
        for head in ("own", "kept"):
            own = rows.filter((pl.col("measure") == measure) & (pl.col("head") == head))
            by_step = {row["step"]: row for row in own.to_dicts()}
            cells = (difference(by_step[step]) if step in by_step else NO_FAIR_CONTROL for step in steps)
            table.add_row(SHORT[measure], head, *cells)
    return table


def sets_table(result: PredictorResult) -> Table:
    """What of a removed set goes with the loss without it, at equal removed energy."""
    rows = result.sets.filter((pl.col("head") == "own") & (pl.col("metric") == "loss"))
    steps = sorted(rows["step"].unique().to_list())
    heads = ("of a set", *(f"{100 * step:g}%" for step in steps), *(f"{100 * step:g}%, equal pooled" for step in steps))
    title = "Rank correlation over sets with the loss of heads of their own; then at equal energy of the mean patch"
    table = plain_table(title, heads, unbroken=[0])
    for (name,), of_name in rows.group_by(["predictor"], maintain_order=True):
        by_step = {row["step"]: row for row in of_name.to_dicts()}
        cells = [cell(by_step[step][column], "+.2f") for column in ("spearman", "partial") for step in steps]
        table.add_row(SHORT.get(str(name), "pooled share"), *cells)
    return table


def difference(row: dict[str, Any]) -> str:
    """A difference in points with its standard error, and a star where it stands after Holm's correction.

    Example:
        >>> difference({"difference": -0.0312, "error": 0.004, "p_holm": 0.01})
        '-3.1 ± 0.4 *'
    """
    if row.get("no_fair_control"):
        return NO_FAIR_CONTROL
    mark = " *" if row["p_holm"] is not None and row["p_holm"] < MARKED else ""
    error = "" if row["error"] is None else f" ± {100 * row['error']:.1f}"
    return f"{100 * row['difference']:+.1f}{error}{mark}"


def summary_rows(result: PredictorResult) -> list[tuple[str, str]]:
    """Lines that say what was found, and what the tables do not say."""
    record = result.record
    data = record.data["splits"]
    splits = ", ".join(f"{split} {value['images']:,} ({value['source']})" for split, value in data.items())
    everywhere = result.additions.filter(pl.col("features_of") == EVERYWHERE)
    by = {row["by"]: row for row in everywhere.to_dicts()}
    lines = [
        ("images", splits),
        ("head", f"linear, on mean patches: top-1 {record.head['top_1']:.1%}, strength {record.head['strength']:g}"),
    ]
    if by:
        every = by[ALL_OTHERS]
        lines.append(
            (
                "CDS adds",
                f"{by[COSINE]['explained']:.0%} of the variance of its ranks follows from 1 - cosine alone, "
                f"{every['explained']:.0%} from all others; {every['adds']:.1%} is left that repeats",
            )
        )
    else:
        lines.append(("CDS adds", "not known: too few features have every measure in full and by halves"))
    own = result.effects.filter((pl.col("head") == "own") & (pl.col("metric") == "top-1"))
    compared = own.filter(pl.col("no_fair_control").is_null())
    marked = compared.filter(pl.col("p_holm") < MARKED)
    lines += [
        (
            "removals",
            f"of {len(own)} groups and steps {len(compared)} have a fair control, and {len(marked)} of these differ "
            f"from it (own heads, p < {MARKED} after Holm's correction, marked *)",
        ),
        (
            "read with",
            "± is a standard error over pairs of sets and over test images together. Sets of a group near its own "
            "energy share most features, and the error then says too little. Equal energy of tokens is not equal "
            "energy of mean patches: pooled_share in removals.parquet has that. A difference says what this "
            f"classifier reads, not what features are for. {SHORT[MADE_OF_CDS]} is made of CDS, and is not among all "
            "others.",
        ),
        *[("test images", line) for line in shared_lines(record.shared_images)],
        *[("note", note) for note in record.notes],
    ]
    return lines


def _short(where: str) -> str:
    """The name of a part with its measure as headings have it.

    Example:
        >>> _short("cosine_distance, 1 of 4"), _short("class local")
        ('1 - cos, 1 of 4', 'class local')
    """
    name, comma, rest = where.partition(",")
    return SHORT.get(name, name) + comma + rest
