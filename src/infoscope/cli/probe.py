"""``infoscope probe``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import tyro

from infoscope.analyses.probes.config import ProbeConfig
from infoscope.analyses.probes.tasks import TaskFlags
from infoscope.cli.inputs import OfRun, Passes, RemovalFlags, check_writable, open_run_pair
from infoscope.cli.output import Answer, Output, given_command


@dataclass(frozen=True)
class Probe:
    """Remove feature groups of a run from its model, and see what linear heads still find.

    One row each: the untouched model, the SAE's reconstruction, without each group, and without random groups of equal
    size and of equal activation mass; --ladder compares at equal removed energy. An interrupted probe resumes when the
    same command is given again.
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

    interrupted: ClassVar[str] = "finished variants and extracted features are kept; the same command resumes from them"

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.analyses.probes.probe import probe_groups
        from infoscope.runtime.run import open_run

        run = open_run(self.run_directory)
        out = self.out or run.path / "probes" / self.task.task
        check_writable(out)
        task = self.task.open(self.config.resize or run.manifest.options["resize"])
        backbone, sae = open_run_pair(run, self.of_run, self.passes, execution=self.passes.execution)
        result = probe_groups(
            run,
            backbone,
            sae,
            task,
            self.removal.groups,
            self.config,
            self.removal.config,
            out=out,
            command=given_command(),
            execution=self.passes.execution,
        )
        from infoscope.analyses.probes.result import PROBE_FILE
        from infoscope.cli.probe_summary import print_probe

        return Answer(
            lambda: print_probe(result, out),
            lambda: result.to_json() | {"table": result.table.to_dicts(), "ladder": result.ladder.to_dicts()},
            {"out": out, "record": out / PROBE_FILE, "variants": out / "variants.parquet"},
        )
