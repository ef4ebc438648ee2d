"""``infoscope compare``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import tyro

from infoscope.cli.inputs import check_writable
from infoscope.cli.output import Answer, Output, cell, console, plain_table

if TYPE_CHECKING:
    from rich.table import Table

    from infoscope.analyses.comparison import Compared, Comparison


@dataclass(frozen=True)
class Compare:
    """Lay the spectra of several runs side by side, and say what differs between them."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Directories that `infoscope measure` wrote, two or more; that of a sweep stands for its blocks."""
    out: Path | None = None
    """A directory for the page, index.html, and comparison.json. Without it the tables are printed and no more."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "the runs are as they were"

    def run(self) -> Answer:
        """Run the command."""
        if self.out is not None:
            check_writable(self.out)
        from infoscope.analyses.comparison import compare_runs

        comparison = compare_runs(self.runs)
        written: dict[str, Path] = {}
        if self.out is not None:
            from infoscope.views.comparison.page import write_comparison

            written = {"page": write_comparison(comparison, self.out), "out": self.out}
        return Answer(
            lambda: print_comparison(comparison, written.get("page")),
            comparison.to_json,
            written,
            comparison.warnings,
        )


def print_comparison(comparison: Comparison, page: Path | None) -> None:
    """Print the numbers, the classes, what differs, where that is not like with like, and where the page is."""
    from rich.text import Text

    from infoscope.analyses.comparison import rules_differ
    from infoscope.views.comparison.page import modes_sentence

    out = console()
    runs = comparison.runs
    refused = rules_differ(runs)
    if refused is not None:
        out.print(Text.assemble(("not like with like: ", "bold"), refused))
    out.print(_numbers(runs))
    out.print(Text(modes_sentence(runs)))
    if refused is None:
        out.print(_classes(runs))
        for run in runs:
            if run.expected_false:
                out.print(Text.assemble(("expected false ", "bold"), _false(run)))
    for difference in comparison.differences:
        values = ", ".join(dict.fromkeys(difference.values))
        out.print(Text.assemble((f"{difference.name} differs: ", "bold"), values))
    for warning in comparison.warnings:
        if warning == refused:
            continue  # stands first
        out.print(Text.assemble(("not like with like: ", "bold"), warning))
    if page is not None:
        print(f"page: {page}")


def _numbers(runs: list[Compared]) -> Table:
    from infoscope.views.comparison.page import SHOWN

    calibrated = any(run.calibrated for run in runs)
    names = ["run", "scored", *SHOWN, "modes", *(["calibrated"] if calibrated else []), "area", "FVU"]
    rows = [
        [
            run.label,
            f"{run.scored_share:.1%}",
            *(cell(run.cds.get(name), missing="-") for name in SHOWN),
            cell(run.modes, "d", "-"),
            *([cell(run.calibrated.get("median"), ".2f", "-")] if calibrated else []),
            cell(run.effective_area, ".1f", "-"),
            cell(run.fvu, missing="-"),
        ]
        for run in runs
    ]
    return _filled("CDS over the scored features", names, rows)


def _classes(runs: list[Compared]) -> Table:
    from infoscope.scope.classes import CLASSES

    rows = [
        [run.label, *("-" if name in run.not_repeatable else f"{run.classes[name]:.1%}" for name in CLASSES)]
        for run in runs
    ]
    unsteady = any(run.not_repeatable for run in runs)
    title = "Share of the features in each scope class" + " (-: not repeatable)" * unsteady
    return _filled(title, ["run", *CLASSES], rows)


def _false(run: Compared) -> str:
    """How many of the features of each class are expected not to be of it."""
    shares = [f"{name} {share:.1%}" for name, share in run.expected_false.items() if name not in run.not_repeatable]
    return f"of {run.label}: {', '.join(shares) or 'no class repeats'}"


def _filled(title: str, names: list[str], rows: list[list[str]]) -> Table:
    from rich.text import Text

    table = plain_table(title, names, unbroken=range(1, len(names)))
    for row in rows:
        table.add_row(*map(Text, row))
    return table
