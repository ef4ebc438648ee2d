"""``infoscope demo``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from infoscope.cli.inputs import check_writable
from infoscope.cli.output import Answer, Output

if TYPE_CHECKING:
    from infoscope.demo.words import Stage

# Of each way the model was edited, for the JSON document.
VARIANTS_SHOWN = ("name", "draw", "features", "mass", "accuracy", "accuracy_change", "flips")


@dataclass(frozen=True)
class Demo:
    """Show the whole job on a small model, an SAE and photographs that come with the package. Nothing is downloaded.

    It measures every feature, splits them into low-CDS and high-CDS, removes either part, and writes the site: a minute
    or so on two cores.
    """

    out: Path = Path("infoscope-demo")
    """The run directory to write."""
    open_site: Annotated[bool, tyro.conf.arg(name="open")] = True
    """Open the site in a browser, where there is one. Not with --json or --quiet."""
    photographs: int | None = None
    """Take so many of the bundled photographs, evenly spread: fewer are quicker. Default: all."""

    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "finished shards are kept, and the same command goes on there"

    def run(self) -> Answer:
        """Run the command."""
        import shlex
        import sys
        import time

        check_writable(self.out)
        start = time.monotonic()
        from infoscope.cli.key_figures import run_figures
        from infoscope.demo.demo import run_demo

        for_people = not (self.output.json or self.output.quiet)
        made = run_demo(
            self.out,
            photographs=self.photographs,
            tell=_tell if for_people else lambda said: None,
            command=shlex.join(["infoscope", *sys.argv[1:]]),
        )
        seconds = time.monotonic() - start

        def result() -> dict[str, Any]:
            figures = run_figures(made.run)
            variants = None if made.variants is None else made.variants.select(VARIANTS_SHOWN).to_dicts()
            return figures | {"without_groups": variants, "took": seconds, "peak_gib": _peak_gib()}

        return Answer(
            lambda: print(f"\n{_cost(seconds)}"),
            result,
            {"page": made.page, "out": made.run.path},
            then=(lambda: _open(made.page)) if self.open_site and for_people else None,
        )


def _tell(said: Stage | str) -> None:
    """A line, or the title of a stage on a line of its own."""
    if isinstance(said, str):
        print(said, flush=True)
    else:
        print(f"\n{said.title}", flush=True)


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
