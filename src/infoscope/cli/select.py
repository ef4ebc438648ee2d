"""``infoscope select``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import tyro

from infoscope.analyses.probes.config import ProbeConfig
from infoscope.analyses.probes.tasks import TaskFlags
from infoscope.analyses.removal.config import RemovalConfig
from infoscope.analyses.selection.config import SelectConfig
from infoscope.cli.inputs import OfRun, Passes, check_writable, open_run_pair
from infoscope.cli.output import Answer, Output, console, given_command, plain_table, print_rows
from infoscope.options import ReadFrom, RemovalMethod, Replacement, Resize

if TYPE_CHECKING:
    from rich.table import Table

    from infoscope.analyses.selection.result import Selection


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
    site: ReadFrom = "rerun"
    """rerun: the rest of the network runs on from the edited tokens; site: the block's own edited tokens are read."""
    method: RemovalMethod = RemovalConfig.method
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

    interrupted: ClassVar[str] = "finished steps and extracted features are kept; the same command resumes from them"

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.analyses.selection.select import select_features
        from infoscope.runtime.run import open_run

        run = open_run(self.run_directory)
        out = self.out or run.path / "selections" / self.task.task
        check_writable(out)
        task = self.task.open(self.resize or run.manifest.options["resize"])
        backbone, sae = open_run_pair(run, self.of_run, self.passes, execution=self.passes.execution)
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
            command=given_command(),
            execution=self.passes.execution,
        )
        from infoscope.analyses.selection.result import FEATURES_FILE, SELECTION_FILE

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


def print_selection(selection: Selection, out: Path) -> None:
    """Print the curve, and the set that is best on held-out images."""
    from infoscope.analyses.probes.result import titled
    from infoscope.analyses.selection.result import FEATURES_FILE
    from infoscope.cli.probe_summary import score
    from infoscope.measurement.shared_images import shared_lines

    record, choice = selection.record, selection.choice
    metric = record.metric
    console().print(_curve(selection))
    if choice.removed:
        found = f"{choice.name}: {len(choice.removed):,} features"
    else:
        found = "removing nothing: no set scores higher on the held-out images"
    interval = (
        ""
        if choice.difference_lower is None or choice.difference_upper is None
        else f", 95 % interval of the difference {choice.difference_lower:+.4f} to {choice.difference_upper:+.4f}"
    )
    print_rows(
        [
            ("best", found),
            (
                "held out",
                f"{titled(metric)}: {score(metric, choice.validation)}, unedited "
                f"{score(metric, choice.validation_untouched)}; the choice was made here, so the gain is flattered",
            ),
            (
                "test",
                f"{titled(metric)}: {score(metric, choice.test)}, unedited {score(metric, choice.test_untouched)}"
                f"{interval}",
            ),
            *[("test images", line) for line in shared_lines(record.shared_images)],
            *[("note", note) for note in record.notes],
            ("written", f"{out}; remove the set elsewhere with --remove list:{out / FEATURES_FILE}"),
        ]
    )


def _curve(selection: Selection) -> Table:
    """One row a step: its scores, and the mean test scores of the random sets beside it."""
    from infoscope.analyses.probes.result import titled
    from infoscope.cli.ladder_summary import share
    from infoscope.cli.probe_summary import score

    metric, column = selection.record.metric, selection.options["column"]
    heads = ("removed", "features", "mass", "energy", "held out", "test", "random of equal size", "of equal mass")
    table = plain_table(f"{titled(metric)}, without features by {column}", heads, unbroken=[0])
    steps = selection.steps.to_dicts()
    for row in steps:
        if row["match"] is not None:
            continue
        beside = []
        for match in ("size", "mass"):
            step = (match, row["end"], row["share"])
            drawn = [other["test"] for other in steps if (other["match"], other["end"], other["share"]) == step]
            beside.append(score(metric, sum(drawn) / len(drawn)) if drawn else "")
        table.add_row(
            "nothing" if row["end"] is None else f"{row['end']} {row['share']:.0%}",
            f"{row['features']:,}",
            f"{row['mass']:.1%}",
            share(row["energy_share"]),
            score(metric, row["validation"]),
            score(metric, row["test"]),
            *beside,
        )
    return table
