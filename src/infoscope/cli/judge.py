"""``infoscope judge``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import tyro

from infoscope.cli.inputs import check_writable
from infoscope.cli.output import Answer, Output
from infoscope.options import Rules


@dataclass(frozen=True)
class Judge:
    """Give a run new classes, trust and controls from its stored maps, without its model, its SAE or its images."""

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` wrote."""
    rules: Rules = "posterior"
    """The rules: the posterior of each class in the light of all features, or the thresholds of earlier versions."""
    out: Path | None = None
    """A new directory for a copy with the new classes. Default: the run's own tables are replaced, unless it would lose
    something: a run with --ranks above k is judged into a new directory only."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "the run is as it was, or judged and whole"

    def run(self) -> Answer:
        """Run the command."""
        if self.out is not None:
            check_writable(self.out)
        from infoscope.cli.summary import print_summary, run_figures, run_files
        from infoscope.measurement.controls import controls_of
        from infoscope.measurement.rejudge import judge_run
        from infoscope.runtime.run import open_run

        before = open_run(self.run_directory)
        was = {"rule_version": before.manifest.rule_version, "classes": controls_of(before).classes}
        run = judge_run(before, self.rules, out=self.out)
        stale = _stale(run.path)

        def show() -> None:
            print_summary(run)
            if stale:
                print(
                    f"not renewed, and still from the classes of before: {', '.join(stale)}; run their commands again"
                )

        def result() -> dict[str, Any]:
            return run_figures(run) | {"before": was, "stale": stale}

        return Answer(show, result, run_files(run.path), run.manifest.fit.warnings or [])


# Results that a run's directory may hold and that rest on its classes.
_RESTING = ("report", "outliers", "predictors", "probes", "selections", "zeroshot")


def _stale(path: Path) -> list[str]:
    """What in the directory was made from the classes that were there before."""
    return [str(path / name) for name in _RESTING if (path / name).is_dir()]
