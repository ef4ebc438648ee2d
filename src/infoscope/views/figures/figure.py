"""A figure of a run, by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt

from infoscope.errors import check_choice
from infoscope.measurement.result import Scope
from infoscope.options import FigureKind
from infoscope.runtime.run import Run, open_run
from infoscope.views.figures.charts import histogram, scatter, shift
from infoscope.views.figures.gallery import gallery
from infoscope.views.figures.options import FigureOptions
from infoscope.views.figures.removal import removal
from infoscope.views.report.photographs import find_photographs


def figure(
    run: Run | Scope | Path | str,
    kind: FigureKind,
    *,
    images: Any = None,
    options: FigureOptions | None = None,
    **changed: Any,
) -> alt.TopLevelMixin:
    """Draw a figure of a run at print size, as an altair chart, which shows itself in a notebook.

    `infoscope.save_figure` writes it as PDF, SVG or PNG. Its ``description`` is a caption that says what was drawn,
    over how many features, and with what they were measured.

    Args:
        run: a run, a scope, or the path of a run directory.
        kind: ``histogram``: the spectrum of CDS with the threshold. ``scatter``: any two columns. ``gallery``: features
            with their top images. ``shift``: distance over the shift. ``removal``: what the model loses without
            groups of features.
        images: for the gallery, the photographs, as `infoscope.open_images` takes them, where they are no longer at
            the place that the run names.
        options: how it is drawn (see `FigureOptions`).
        **changed: options by name, such as ``width=6.75``; they come before those of ``options``.

    Raises:
        InfoscopeError: the run lacks what the figure needs, and the message says what to run; an option is wrong.

    Example:
        >>> figure("no/such/run", "histogram")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such run directory: no/such/run; name one that `infoscope measure` wrote
    """
    check_choice("kind", kind, FigureKind)
    chosen = FigureOptions(**vars(options or FigureOptions()) | changed)
    opened = run if isinstance(run, Run) else run.run if isinstance(run, Scope) else open_run(run)
    width = chosen.width
    draw: dict[str, Callable[[], alt.TopLevelMixin]] = {
        "histogram": lambda: histogram(opened, width, chosen.by),
        "scatter": lambda: scatter(opened, width, chosen.x, chosen.y),
        "gallery": lambda: gallery(
            opened, find_photographs(opened, images), width, chosen.features, chosen.each, chosen.pairs
        ),
        "shift": lambda: shift(opened, width),
        "removal": lambda: removal(opened, width, chosen.results),
    }
    return draw[kind]()
