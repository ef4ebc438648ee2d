"""``infoscope info``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import tyro

from infoscope.cli.output import Answer, Output


@dataclass(frozen=True)
class Info:
    """Print what a run measured and what it found."""

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` wrote."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "nothing was written"

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.cli.summary import print_inputs, print_summary, run_figures
        from infoscope.measurement.controls import controls_of
        from infoscope.measurement.summary import partition_of
        from infoscope.runtime.run import open_run

        run = open_run(self.run_directory)
        run.check_whole()
        _ = run.scope, partition_of(run)  # what is damaged is said before anything is printed

        def show() -> None:
            print_inputs(run)
            print_summary(run)

        def result() -> dict[str, Any]:
            return {
                **run_figures(run),
                "checked": run.checked,
                "manifest": run.manifest,
                "partition": run.partition,
                "controls": controls_of(run).to_json(),
            }

        return Answer(show, result, warnings=run.manifest.fit.warnings or [], word=str(run.path))
