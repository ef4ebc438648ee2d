"""``infoscope select``."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import tyro

from infoscope.analyses.probes.config import ProbeConfig
from infoscope.analyses.removal.config import Method, RemovalConfig, Replacement, Site
from infoscope.analyses.selection.config import SelectConfig
from infoscope.cli.inputs import OfRun, Passes, check_writable, open_run_pair
from infoscope.cli.output import Answer, Output
from infoscope.cli.tasks import TaskFlags
from infoscope.runtime.choices import Resize


@dataclass(frozen=True)
class Select:
    """Find the set of features whose removal serves a task best, along the score.

    Features are removed from the top and from the bottom of a column in steps, with random removal beside each step.
    The set is chosen on held-out images; its test score is reported beside the unedited model's.
    """

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` wrote."""
    task: tyro.conf.OmitArgPrefixes[TaskFlags] = field(default_factory=TaskFlags)
    config: tyro.conf.OmitArgPrefixes[SelectConfig] = field(default_factory=SelectConfig)
    site: Site = "rerun"
    """rerun: the rest of the network runs on from the edited tokens; site: the block's own edited tokens are read."""
    method: Method = RemovalConfig.method
    """keep-error takes the features' contribution from the token; reconstruct decodes the codes that are left."""
    replacement: Replacement = RemovalConfig.replacement
    """What removed codes become: zero, their mean, or those of another image (resampled)."""
    recipe: str = ProbeConfig.recipe
    """How heads are trained: simple or dinov2."""
    resize: Resize | None = None
    """How an image becomes square: stretch ignores the aspect ratio, crop takes the centre. Default: the run's."""
    disk_gib: float = ProbeConfig.disk_gib
    """Most space for features at a time, in GiB."""
    keep_features: bool = ProbeConfig.keep_features
    """Keep a step's features once its head is trained."""
    sample_images: int = ProbeConfig.sample_images
    """Training images whose codes give the activation mass, the mean codes, and the codes to resample."""
    out: Path | None = None
    """The folder to write. Default: selections/ and the task's name, in the run."""
    of_run: tyro.conf.OmitArgPrefixes[OfRun] = field(default_factory=OfRun)
    passes: tyro.conf.OmitArgPrefixes[Passes] = field(default_factory=Passes)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "finished steps and extracted features are kept, and the same command goes on there"

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.analyses.selection.select import select_features
        from infoscope.runtime.run import open_run

        run = open_run(self.run_directory)
        out = self.out or run.path / "selections" / self.task.task
        check_writable(out)
        task = self.task.open(self.resize or run.manifest.options["resize"])
        backbone, sae = open_run_pair(run, self.of_run, self.passes, **self.passes.counts)
        selection = select_features(
            run,
            backbone,
            sae,
            task,
            self.config,
            ProbeConfig(
                recipe=self.recipe,
                resize=self.resize,
                disk_gib=self.disk_gib,
                keep_features=self.keep_features,
                sample_images=self.sample_images,
                seed=self.config.seed,
            ),
            RemovalConfig(sites=(self.site,), method=self.method, replacement=self.replacement),
            out=out,
            command=shlex.join(["infoscope", *sys.argv[1:]]),
            **self.passes.counts,
        )
        from infoscope.analyses.selection.result import FEATURES_FILE, SELECTION_FILE
        from infoscope.cli.select_summary import print_selection

        return Answer(
            lambda: print_selection(selection, out),
            lambda: selection.to_json() | {"steps": selection.steps.to_dicts()},
            {
                "out": out,
                "record": out / SELECTION_FILE,
                "removed": out / FEATURES_FILE,
                "steps": out / "steps.parquet",
            },
        )
