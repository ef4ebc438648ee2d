"""Progress with an estimate: a bar on a terminal, a plain line now and then elsewhere.

None of it is shown where the logger ``infoscope.progress`` is set to errors alone, as ``--quiet`` does.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Our choice: a job that is done within two seconds needs no line; a log needs few.
QUIET_SECONDS = 2.0
LINE_EVERY_SECONDS = 15.0

Advance = Callable[..., None]

_LOGGER = logging.getLogger("infoscope.progress")
# How many pieces of work are running without a report, nested or side by side.
_silences = 0


@contextmanager
def progress(title: str, total: int, unit: str, *, enabled: bool = True) -> Iterator[Advance]:
    """Report the progress of ``total`` steps on stderr.

    Args:
        title: what is being done.
        total: how many steps there are.
        unit: what a step is, in the plural.
        enabled: False reports nothing.

    Yields:
        ``advance(steps, note="")``: call it after each step or group of steps; ``note`` is shown beside the bar.

    Example:
        >>> with progress("Reading", total=3, unit="images", enabled=False) as advance:
        ...     advance(3, "done")
    """
    began = time.monotonic()
    if not _shown(enabled):
        with _silence():
            yield lambda steps=1, note="": None
    elif sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        with _terminal(title, total, unit) as advance:
            yield advance
    else:
        yield _plain(title, total, unit)
    _LOGGER.debug("%s: %d %s in %.2f s", title, total, unit, time.monotonic() - began)


def tell(line: str, *, enabled: bool = True) -> None:
    """Print a line on stderr that belongs to the progress.

    Example:
        >>> tell("Block 3 of 12", enabled=False)
    """
    if _shown(enabled):
        print(line, file=sys.stderr, flush=True)


def is_silenced() -> bool:
    """Whether work is running whose progress is not shown.

    Example:
        >>> with progress("Reading", total=3, unit="images", enabled=False):
        ...     is_silenced()
        True
        >>> is_silenced()
        False
    """
    return _silences > 0


@contextmanager
def _silence() -> Iterator[None]:
    global _silences
    _silences += 1
    try:
        yield
    finally:
        _silences -= 1


def _shown(enabled: bool) -> bool:
    return enabled and _LOGGER.isEnabledFor(logging.WARNING)


@contextmanager
def _terminal(title: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(title, total=total, note="")
        yield lambda steps=1, note="": bar.update(task, advance=steps, note=note)


def _plain(title: str, total: int, unit: str) -> Advance:
    start = last = time.monotonic()
    done = 0

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        finished = done >= total
        if now - start < QUIET_SECONDS or (now - last < LINE_EVERY_SECONDS and not finished):
            return
        last = now
        left = f", about {_duration((now - start) / done * (total - done))} left" if 0 < done < total else ""
        print(
            f"{title}: {done} of {total} {unit}{left}{'; ' + note if note else ''}",
            file=sys.stderr,
            flush=True,
        )

    return advance


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass
class Clock:
    """Wall seconds by stage, for the record of a run.

    Example:
        >>> clock = Clock()
        >>> with clock("maps"):
        ...     pass
        >>> list(clock.seconds)
        ['maps']
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time one stage."""
        start = time.monotonic()
        yield
        self.seconds[stage] = round(time.monotonic() - start, 3)
