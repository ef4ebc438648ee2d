"""What the terminal shows of groups that were compared on a ladder of removed energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
from rich.table import Table

from infoscope.cli.output import plain_table

NO_FAIR_CONTROL = "no fair control"
Show = Callable[[float | None, bool], str]
"""A score as text; the second argument asks for a sign."""


def ladder_tables(ladder: pl.DataFrame, metric: str, title: str, show: Show) -> Iterator[Table]:
    """One table a group and site: its subsets beside sets disjoint from it, step by step.

    Args:
        ladder: `infoscope.analyses.removal.columns.LADDER`.
        metric: which score is shown.
        title: the score's name, with its unit.
        show: makes a score text.
    """
    several = ladder["site"].n_unique() > 1
    rows = ladder.filter(pl.col("metric") == metric)
    for (site, group), of_group in rows.group_by(["site", "group"], maintain_order=True):
        where = f" ({site})" if several else ""
        heads = ("energy", "features", f"subsets of {group}", "disjoint sets", "difference")
        table = plain_table(f"{title} at equal removed energy: {group}{where}", heads, unbroken=[0, 1])
        for row in of_group.to_dicts():
            table.add_row(*_cells(row, show))
        yield table


def ladder_notes(ladder: pl.DataFrame) -> list[tuple[str, str]]:
    """Lines that say where there is no fair control, and what the columns are; none without a ladder."""
    if not len(ladder):
        return []
    reasons = ladder["no_fair_control"].drop_nulls().unique(maintain_order=True).to_list()
    explained = (
        "energy is the mean squared length that a removal takes out of a token, as a share of the tokens' mean square "
        "about their mean. Subsets of a group and sets disjoint from it take out equally much, to within 2 %; ± is the "
        "standard deviation over the sets, and of the difference over pairs of them."
    )
    return [
        *((NO_FAIR_CONTROL, reason.removeprefix(f"{NO_FAIR_CONTROL} ")) for reason in reasons),
        ("ladder", explained),
    ]


def share(value: float | None) -> str:
    """An energy as a share of the tokens' mean square.

    Example:
        >>> share(0.0204), share(None)
        ('2.0%', '')
    """
    return "" if value is None else f"{value:.1%}"


def _cells(row: dict[str, Any], show: Show) -> tuple[str, ...]:
    if row["step"] is None:
        overlap = "" if row["overlap"] is None else f"random, equal mass: {row['overlap']:.0%} the same"
        energy = f"whole, {share(row['subset_energy'])}"
        return energy, f"{row['subset_features']:,.0f}", show(row["subset"], False), overlap, ""
    step = f"{100 * row['step']:g}%"
    if row["no_fair_control"] is not None:
        return step, "", "", "", NO_FAIR_CONTROL
    features = f"{row['subset_features']:,.0f} / {row['disjoint_features']:,.0f}"
    scores = [_with_spread(row, name, show) for name in ("subset", "disjoint")]
    return step, features, *scores, _with_spread(row, "difference", show, signed=True)


def _with_spread(row: dict[str, Any], name: str, show: Show, signed: bool = False) -> str:
    spread = row[f"{name}_spread"]
    return show(row[name], signed) + ("" if spread is None else f" ± {show(spread, False)}")
