"""The spectrum of CDS with the threshold, by class or by side of it."""

from __future__ import annotations

import altair as alt
import polars as pl

from infoscope.errors import InfoscopeError
from infoscope.figures.options import By
from infoscope.figures.paper import LABEL, fitted, height_of, points, printed
from infoscope.figures.words import measured, plural
from infoscope.report.bars import BAR
from infoscope.report.colours import HIGH_CDS, LOW_CDS, ON_LIGHT
from infoscope.report.figures import spectrum_layers
from infoscope.report.summary import partition_of
from infoscope.scope.classes import CLASSES
from infoscope.storage.run import Run

SIDES = {"low-CDS": LOW_CDS, "high-CDS": HIGH_CDS}
# Our choice, of all charts that are no gallery: near the golden section.
SHAPE = 0.7


def histogram(run: Run, width: float, by: By) -> alt.LayerChart:
    """The chart.

    Args:
        run: the run.
        width: inches.
        by: what colours the bars.

    Raises:
        InfoscopeError: no feature has a score.
    """
    partition = partition_of(run)
    if partition is None:
        raise InfoscopeError(
            f"no feature of {run.path} has a score to draw: measure more images, or lower --top-images"
        )
    scored = run.scope.filter(pl.col("cds").is_not_null())
    cds = scored["cds"].to_numpy()
    if by == "class":
        groups = scored["scope_class"].to_list()
        colours: dict[str, str] = {name: ON_LIGHT[name] for name in CLASSES if name in groups}
        said = "scope class"
    else:
        groups = ["low-CDS" if value <= partition.threshold else "high-CDS" for value in cds.tolist()]
        colours, said = SIDES, "side of the threshold"
    legend = alt.Legend(title=None, columns=3 if width < 4 else 0)
    layers = spectrum_layers(cds, groups, colours, partition, letters=points(LABEL), legend=legend)
    caption = (
        f"CDS of {plural(len(cds), 'scored feature')} of {run.scope.height:,}, in bars of {BAR:g}, by {said}; line: "
        f"kernel density; dashed: the threshold. {partition.sentence()} ({measured(run)}.)"
    )
    return printed(fitted(alt.LayerChart(layer=layers), width, height_of(width, SHAPE)), caption)
