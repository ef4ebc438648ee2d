"""``infoscope predictors``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import tyro

from infoscope.analyses.predictors.config import PredictorConfig
from infoscope.analyses.probes.tasks import TaskFlags
from infoscope.cli.inputs import OfRun, Passes, check_writable, open_run_pair
from infoscope.cli.output import Answer, Output, given_command
from infoscope.errors import InfoscopeError


@dataclass(frozen=True)
class ClassifierFlags:
    """The images of the classifier."""

    data: str | None = None
    """A folder with train and val, test, or both, with a folder a class, in place of --train and --test."""
    train: str | None = None
    """The images that heads are trained on: as --images of `infoscope measure`, with labels."""
    test: str | None = None
    """The images that heads are scored on; nothing is chosen by them. They should be neither the run's nor those that
    the SAE was trained on."""
    labels: str | None = None
    """Where labels are, as for `infoscope probe`. Default: what the images come with."""


@dataclass(frozen=True)
class Predictors:
    """Compare the measures of a run's features: with each other, with themselves, and by what their removal does.

    Rank correlations; how far each measure repeats between halves of the images; what CDS says beyond the others; and
    what a linear classifier of mean patches, at the SAE's block, loses without the quantile groups of a measure, beside
    random sets of equal removed energy. An interrupted comparison resumes when the same command is given again.
    """

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` wrote."""
    images: tyro.conf.OmitArgPrefixes[ClassifierFlags] = field(default_factory=ClassifierFlags)
    config: tyro.conf.OmitArgPrefixes[PredictorConfig] = field(default_factory=PredictorConfig)
    remove: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A further feature group, once for each, as for `infoscope probe`. Default: none."""
    out: Path | None = None
    """The folder to write. Default: predictors/ in the run."""
    of_run: tyro.conf.OmitArgPrefixes[OfRun] = field(default_factory=OfRun)
    passes: tyro.conf.OmitArgPrefixes[Passes] = field(default_factory=Passes)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = (
        "images that were read and finished groups are kept; the same command resumes from them"
    )

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.analyses.predictors.measure import measure_predictors
        from infoscope.analyses.probes.classification import ClassificationTask
        from infoscope.runtime.run import open_run

        run = open_run(self.run_directory)
        out = self.out or run.path / "predictors"
        check_writable(out)
        given = self.images
        flags = TaskFlags(data=given.data, train=given.train, test=given.test, labels=given.labels)
        task = flags.open(self.config.resize or run.manifest.options["resize"])
        if not isinstance(task, ClassificationTask):  # the flags above name no other
            raise InfoscopeError("predictors classify images: give images with a class each")
        backbone, sae = open_run_pair(run, self.of_run, self.passes, execution=self.passes.execution)
        result = measure_predictors(
            run,
            backbone,
            sae,
            task,
            self.config,
            self.remove,
            out=out,
            command=given_command(),
            execution=self.passes.execution,
        )
        from infoscope.analyses.predictors.result import PREDICTORS_FILE, TABLES
        from infoscope.cli.predictors_summary import print_predictors

        return Answer(
            lambda: print_predictors(result, out),
            lambda: result.to_json() | {name: table.to_dicts() for name, table in result.tables.items()},
            {
                "out": out,
                "record": out / PREDICTORS_FILE,
                **{name: out / f"{name}.parquet" for name in TABLES},
            },
        )
