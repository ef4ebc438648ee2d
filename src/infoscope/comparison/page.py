"""The page of a comparison: one HTML file that needs no other and no network, and the numbers beside it as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from infoscope.comparison.charts import (
    block_chart,
    class_chart,
    density_chart,
    density_end,
    in_block_order,
    run_colours,
)
from infoscope.comparison.compared import Compared, Comparison
from infoscope.comparison.differences import images_of, model_of, on_same_images
from infoscope.report.colours import GLOBAL, LOCAL
from infoscope.report.summary import QUANTILES
from infoscope.report.template import make_environment
from infoscope.scope.classes import CLASSES
from infoscope.scope.modes import SIGNIFICANCE
from infoscope.storage.atomic import atomic_write, remove_leftovers_of, write_json

PAGE, NUMBERS = "index.html", "comparison.json"
# Those that fit beside the other columns; the file has the ends too.
SHOWN = tuple(name for name, _ in QUANTILES if name != "minimum")


@dataclass(frozen=True)
class Figure:
    """A chart and what it shows."""

    drawing: Markup
    caption: str


def write_comparison(comparison: Comparison, out: Path | str) -> Path:
    """Write ``index.html`` and ``comparison.json`` into a directory.

    Args:
        comparison: what `compare_runs` gave.
        out: the directory; made where it is missing, files of an earlier comparison are replaced.

    Returns:
        The page.

    Raises:
        InfoscopeError: they cannot be written, or a run's table cannot be read.
    """
    out = Path(out)
    environment = make_environment("infoscope.comparison")
    text = environment.get_template("comparison.html.j2").render(_context(comparison))
    write_json(out / NUMBERS, comparison.to_json())
    remove_leftovers_of([out / PAGE])
    with atomic_write(out / PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return out / PAGE


def _context(comparison: Comparison) -> dict[str, Any]:
    runs, opened = comparison.runs, comparison.opened
    models, blocks = {model_of(run) for run in opened}, {run.block for run in runs}
    return {
        "runs": runs,
        "warnings": comparison.warnings,
        "differences": comparison.differences,
        "figures": _figures(comparison),
        "quantiles": SHOWN,
        "calibrated": any(run.calibrated for run in runs),
        "classes": CLASSES,
        "hues": run_colours(runs),
        "colours": {"local": LOCAL, "global": GLOBAL},
        "same": {
            "model": models.pop() if len(models) == 1 else None,
            "block": blocks.pop() if len(blocks) == 1 else None,
            "images": images_of(opened[0]) if on_same_images(opened) else None,
        },
        "widest": _widest(runs),
        "modes_said": modes_sentence(runs),
    }


def _figures(comparison: Comparison) -> list[Figure]:
    scored = [
        (run, opened.scope["cds"].drop_nulls().to_numpy())
        for run, opened in zip(comparison.runs, comparison.opened, strict=True)
        if run.scored
    ]
    if not scored:
        return []
    runs = [run for run, _ in scored]
    spectra = [cds.astype(np.float64) for _, cds in scored]
    end = density_end(spectra)
    beyond = sum(int((cds > end).sum()) for cds in spectra)
    figures = [
        Figure(
            Markup(density_chart(runs, spectra)),
            "Kernel densities of CDS over the scored features, each with the area 1 whatever the number of features. "
            f"{beyond or 'No'} of {sum(map(len, spectra)):,} features lie beyond the axis.",
        )
    ]
    in_order = in_block_order(runs)
    if in_order:
        figures.append(
            Figure(
                Markup(block_chart(runs)),
                "CDS over blocks: the median as a line, the middle half of the features darker, 5 to 95 % lighter.",
            )
        )
    every = comparison.runs
    by_block = in_block_order(every)
    said = "Share of all features in each scope class" + (", by block." if by_block else ", by run.")
    return [*figures, Figure(Markup(class_chart(every, by_block)), said)]


def modes_sentence(runs: list[Compared]) -> str:
    """How many of the spectra have more than one mode, by the dip test.

    Example:
        >>> modes_sentence([])
        'No run has enough scored features for the dip test.'
    """
    tested = [run for run in runs if run.dip_p is not None]
    if not tested:
        return "No run has enough scored features for the dip test."
    rejected = [run.label for run in tested if run.dip_p is not None and run.dip_p < SIGNIFICANCE]
    if not rejected:
        return f"The dip test rejects one mode in none of the {len(tested)} runs: each spectrum is continuous."
    return f"The dip test rejects one mode in {len(rejected)} of {len(tested)} runs: {', '.join(rejected)}."


def _widest(runs: list[Compared]) -> str:
    """The lowest and the highest median, in a sentence; empty where fewer than two runs have one."""
    scored = [run for run in runs if run.cds]
    if len(scored) < 2:
        return ""
    low, high = (pick(scored, key=lambda run: run.cds["median"]) for pick in (min, max))
    return f"The median CDS runs from {low.cds['median']:.3f} ({low.label}) to {high.cds['median']:.3f} ({high.label})."
