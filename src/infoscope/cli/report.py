"""``infoscope report``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import tyro

from infoscope.cli.output import Answer, Output


@dataclass(frozen=True)
class Report:
    """Write a run's site, or a training's page: files that open anywhere, offline."""

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` or `infoscope train` wrote."""
    images: str | None = None
    """The images, where they are no longer at the place the run names."""
    features_shown: int = 12
    """How many features of the lowest and of the highest CDS the overview shows with their images."""
    gallery_images: int = 4
    """Top images on each feature's page. More make the site larger."""
    sae: str | None = None
    """The run's SAE, where it is no longer at the place the run names: for the neighbours by direction."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "the site is not whole; the same command writes it anew"

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.cli.site_inputs import open_run_images, open_run_sae
        from infoscope.runtime.run import open_run
        from infoscope.views.report.page import make_options, write_site
        from infoscope.views.report.site import Site
        from infoscope.views.report.training import is_trained_sae, write_training_page

        if is_trained_sae(self.run_directory):
            page = write_training_page(self.run_directory)
            return Answer(lambda: print(page), lambda: {"of": "sae"}, {"page": page})
        run = open_run(self.run_directory)
        options = make_options(self.features_shown, self.gallery_images)
        images = open_run_images(run, self.images)
        sae, why = open_run_sae(run, self.sae)
        page = write_site(Site(run, images, options, sae, why))
        result = {
            "of": "run",
            "features": run.manifest.dictionary.features,
            "gallery_images": self.gallery_images,
            "photographs": images is not None,
            "neighbours_by_direction": sae is not None,
        }
        return Answer(lambda: print(page), lambda: result, {"page": page, "out": page.parent})
