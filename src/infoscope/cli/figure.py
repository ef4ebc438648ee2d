"""``infoscope figure``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from infoscope.cli.inputs import Numbers
from infoscope.cli.output import Answer, Output
from infoscope.options import FigureKind
from infoscope.views.figures.options import FigureOptions


@dataclass(frozen=True)
class FigureFlags(FigureOptions):
    """How the figure is drawn."""

    features: Numbers = ()
    """gallery: the features, such as 12,45. Default: of each class those of the highest trust."""


@dataclass(frozen=True)
class Figure:
    """Draw a figure of a run for a paper, as PDF, SVG or PNG at print size, and print a caption for it.

    histogram: the spectrum of CDS with the threshold. scatter: any two columns, by class. gallery: features with their
    top images and maps. shift: distance over the shift, by class. removal: what the model loses without groups of
    features, beside random groups.
    """

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` wrote."""
    kind: Annotated[tyro.conf.Positional[FigureKind], tyro.conf.arg(name="figure")]
    """Which figure."""
    out: Path
    """The file to write; its name ends in .pdf, .svg or .png (300 pixels to an inch)."""
    images: str | None = None
    """gallery: the images, where they are no longer at the place the run names."""
    config: tyro.conf.OmitArgPrefixes[FigureFlags] = field(default_factory=FigureFlags)

    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "nothing was written"

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.views.figures.figure import figure
        from infoscope.views.figures.paper import caption_of, check_out, save_figure

        check_out(self.out)
        chart = figure(self.run_directory, self.kind, images=self.images, options=FigureOptions(**vars(self.config)))
        written = save_figure(chart, self.out)
        caption = caption_of(chart)

        def show() -> None:
            print(written)
            print(caption)

        return Answer(show, lambda: {"figure": self.kind, "caption": caption}, {"figure": written})
