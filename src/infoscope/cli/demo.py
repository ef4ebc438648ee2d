"""``infoscope demo``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from infoscope.cli.inputs import check_writable
from infoscope.cli.output import Answer, Output, given_command

# Of each way the model was edited, for the JSON document.
VARIANTS_SHOWN = ("name", "draw", "features", "mass", "energy_share", "accuracy", "accuracy_change", "flips")


@dataclass(frozen=True)
class Demo:
    """Run every step on a small model, an SAE and photographs that come with the package. Nothing is downloaded.

    It measures every feature, splits them into low-CDS and high-CDS, looks for outlier tokens and the features that
    live on them, removes each of these groups, and writes the report: about a minute on two cores.
    """

    out: Path = Path("infoscope-demo")
    """The run directory to write."""
    open_report: Annotated[bool, tyro.conf.arg(name="open")] = True
    """Open the report in a browser, where there is one. Not with --json or --quiet."""
    photographs: int | None = None
    """How many of the bundled crops to measure, evenly spread; fewer take less time. Default: all."""

    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "finished shards are kept; the same command resumes from them"

    def run(self) -> Answer:
        """Run the command."""
        import time

        check_writable(self.out)
        start = time.monotonic()
        from infoscope.cli.summary import run_figures
        from infoscope.demo.demo import run_demo
        from infoscope.runtime.json_values import to_json

        for_people = not (self.output.json or self.output.quiet)
        demo = run_demo(
            self.out,
            photographs=self.photographs,
            tell=partial(print, flush=True) if for_people else lambda line: None,
            command=given_command(),
        )
        seconds = time.monotonic() - start

        def result() -> dict[str, Any]:
            figures = run_figures(demo.run)
            variants = None if demo.variants is None else demo.variants.select(VARIANTS_SHOWN).to_dicts()
            record = demo.outliers.record
            groups = record.groups
            outliers = {
                "presence": to_json(record.presence),
                "stability": to_json(record.stability),
                "features": None if groups is None else to_json(groups.on_outliers),
            }
            figures |= {"outliers": outliers}
            return figures | {"without_groups": variants, "took": seconds, "peak_gib": _peak_gib()}

        return Answer(
            lambda: print(f"\n{_cost(seconds)}"),
            result,
            {"page": demo.page, "out": demo.run.path},
            then=(lambda: _open(demo.page)) if self.open_report and for_people else None,
        )


def _cost(seconds: float) -> str:
    """How long it took, and the most memory this process has had."""
    peak = _peak_gib()
    return f"took {seconds:.0f} s" + ("" if peak is None else f", at most {peak:.2f} GiB of memory")


def _peak_gib() -> float | None:
    """The most memory this process has had; None where the system does not say."""
    import sys

    try:
        import resource
    except ImportError:  # there is none on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / (2**30 if sys.platform == "darwin" else 2**20))


def _open(page: Path) -> None:
    """Open the page where there is a screen: without one, a text browser would take the terminal over."""
    import os
    import sys
    import webbrowser

    screen = sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    try:
        opened = screen and webbrowser.open(page.absolute().as_uri())
    except webbrowser.Error:
        opened = False
    if not opened:
        print(f"there is no browser here: open {page}")
