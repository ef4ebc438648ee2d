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
    json: bool = False
    """Print the manifest, the partition and the controls as JSON instead."""

    interrupted: ClassVar[str] = "nothing was written"

    def run(self) -> None:
        """Run the command."""
        from infoscope.cli.summary import print_inputs, print_summary
        from infoscope.measurement.run_controls import run_controls
        from infoscope.report.summary import partition_of
        from infoscope.storage.run import open_run

        run = open_run(self.run_directory)
        if self.json:
            import json
            from dataclasses import asdict

            controls = run_controls(run.scope, int(run.manifest.options["top_images"])).to_json()
            value = {"manifest": asdict(run.manifest), "partition": run.partition, "controls": controls}
            print(json.dumps(value, indent=2))
            return
        _ = run.scope, partition_of(run)  # what is damaged is said before anything is printed
        print_inputs(run)
        print_summary(run)
