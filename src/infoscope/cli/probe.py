"""``infoscope probe``."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import tyro

from infoscope.analyses.probes.config import ProbeConfig
from infoscope.cli.inputs import OfRun, Passes, check_writable, open_run_pair
from infoscope.cli.output import Answer, Output
from infoscope.cli.removal import RemovalFlags
from infoscope.cli.tasks import TaskFlags


@dataclass(frozen=True)
class Probe:
    """Remove feature groups of a run from its model, and see what linear heads still find.

    One row each: the untouched model, the SAE's reconstruction, without each group, and without random groups of equal
    size and of equal activation mass. An interrupted probe goes on when the same command is given again.
    """

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` wrote."""
    task: tyro.conf.OmitArgPrefixes[TaskFlags] = field(default_factory=TaskFlags)
    removal: tyro.conf.OmitArgPrefixes[RemovalFlags] = field(default_factory=RemovalFlags)
    config: tyro.conf.OmitArgPrefixes[ProbeConfig] = field(default_factory=ProbeConfig)
    out: Path | None = None
    """The folder to write. Default: probes/ and the task's name, in the run."""
    of_run: tyro.conf.OmitArgPrefixes[OfRun] = field(default_factory=OfRun)
    passes: tyro.conf.OmitArgPrefixes[Passes] = field(default_factory=Passes)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "finished variants and extracted features are kept, and the same command goes on there"

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.analyses.probes.probe import probe_groups
        from infoscope.runtime.run import open_run

        run = open_run(self.run_directory)
        out = self.out or run.path / "probes" / self.task.task
        check_writable(out)
        task = self.task.open(self.config.resize or run.manifest.options["resize"])
        backbone, sae = open_run_pair(run, self.of_run, self.passes, **self.passes.counts)
        result = probe_groups(
            run,
            backbone,
            sae,
            task,
            self.removal.groups,
            self.config,
            self.removal.config,
            out=out,
            command=shlex.join(["infoscope", *sys.argv[1:]]),
            **self.passes.counts,
        )
        from infoscope.analyses.probes.result import PROBE_FILE
        from infoscope.cli.probe_summary import print_probe

        return Answer(
            lambda: print_probe(result, out),
            lambda: result.to_json() | {"table": result.table.to_dicts()},
            {"out": out, "record": out / PROBE_FILE, "variants": out / "variants.parquet"},
        )
