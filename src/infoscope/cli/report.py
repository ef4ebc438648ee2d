"""``infoscope report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro


@dataclass(frozen=True)
class Report:
    """Write a run's page, or a training's: one HTML file that opens anywhere, offline."""

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` or `infoscope train` wrote."""
    images: str | None = None
    """The images, where they are no longer at the place the run names."""
    features_shown: int = 12
    """How many of the most local and of the most global features are shown with their images."""

    interrupted: ClassVar[str] = "nothing was written"

    def run(self) -> None:
        """Run the command."""
        import sys

        from infoscope.errors import InfoscopeError
        from infoscope.images.source import open_images
        from infoscope.report.page import write_report
        from infoscope.report.training import is_trained_sae, write_training_page
        from infoscope.storage.run import open_run

        if is_trained_sae(self.run_directory):
            print(write_training_page(self.run_directory))
            return
        run = open_run(self.run_directory)
        source = None
        try:
            source = open_images(self.images or run.manifest.images.source)
        except InfoscopeError as error:
            if self.images is not None:
                raise
            print(f"infoscope: {error}; the page is made without photographs, or give --images", file=sys.stderr)
        print(write_report(run, source, features_shown=self.features_shown))
