"""``infoscope info``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro


@dataclass(frozen=True)
class Info:
    """Print what a run measured and what it found."""

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` wrote."""

    interrupted: ClassVar[str] = "nothing was written"

    def run(self) -> None:
        """Run the command."""
        from infoscope.cli.summary import print_inputs, print_summary
        from infoscope.storage.run import open_run

        run = open_run(self.run_directory)
        print_inputs(run)
        print_summary(run)
