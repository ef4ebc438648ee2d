"""What removing feature groups did to a run's probes, zero-shot predictions and selections, in one form for figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from infoscope.analyses.probes.result import PROBE_FILE, SHARES, titled
from infoscope.analyses.selection.result import SELECTION_FILE, STEPS
from infoscope.analyses.zeroshot.result import ZEROSHOT_FILE
from infoscope.errors import InfoscopeError
from infoscope.runtime.columns import read_table
from infoscope.runtime.run import Run
from infoscope.runtime.seal import read_record
from infoscope.views.report.removal_tables import ProbeTable, probe_tables, zeroshot_table


@dataclass(frozen=True)
class Removed:
    """The score of one variant at one site.

    Attributes:
        site: where the edit acts, or "model" where there is no choice.
        name: the variant's.
        draws: of a random group; 1 of the others.
        score: mean over the draws.
        low: end of the 95 % interval of the difference, laid at the score; of a random group the mean minus the
            standard deviation over the draws; None where neither is known.
        high: the other end.
    """

    site: str
    name: str
    draws: int
    score: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Removals:
    """Scores without groups of features.

    Attributes:
        folder: where in the run they are.
        title: of the panel.
        metric: with its unit.
        rows: the variants, site by site, in the order of the table.
    """

    folder: str
    title: str
    metric: str
    rows: list[Removed]


@dataclass(frozen=True)
class Steps:
    """Scores along a selection.

    Attributes:
        folder: where in the run they are.
        title: of the panel.
        metric: with its unit.
        column: that the features were ordered by.
        rows: ``share``, ``end``, ``match`` (null for the set itself), ``score``, and of random sets ``low``, ``high``.
        untouched: the score with nothing removed.
    """

    folder: str
    title: str
    metric: str
    column: str
    rows: pl.DataFrame
    untouched: float


@dataclass(frozen=True)
class _Along:
    column: str


@dataclass(frozen=True)
class _SelectionRecord:
    """What the figure needs of ``selection.json``; a later version may have more."""

    task: str
    metric: str
    selection: _Along


def found_results(run: Run, wanted: Sequence[str] = ()) -> list[Removals | Steps]:
    """The results in a run, or those that are wanted, in their order.

    Args:
        run: the run.
        wanted: their folders, such as ``probes/imagenette``; a name alone will do where it is one result's.

    Raises:
        InfoscopeError: there are none, or a wanted one is not there or cannot be read.
    """
    readers = _readers(run.path)
    if not readers:
        raise InfoscopeError(
            f"{run.path} has no probes, zero-shot predictions or selections to draw: run `infoscope probe {run.path} "
            "--data ...` first"
        )
    folders = [_named(name, list(readers), run.path) for name in wanted] or list(readers)
    return [readers[folder](run, folder) for folder in dict.fromkeys(folders)]


Reader = Callable[[Run, str], Removals | Steps]


def _readers(path: Path) -> dict[str, Reader]:
    """How each finished result is read, by folder."""
    found: dict[str, Reader] = {}
    for pattern, reader in (
        (f"probes/*/{PROBE_FILE}", _probe),
        (f"zeroshot/{ZEROSHOT_FILE}", _zeroshot),
        (f"selections/*/{SELECTION_FILE}", _selection),
    ):
        for file in sorted(path.glob(pattern)):
            found[file.parent.relative_to(path).as_posix()] = reader
    return found


def _named(name: str, folders: list[str], path: Path) -> str:
    matching = [folder for folder in folders if name in (folder, folder.rpartition("/")[2])]
    if len(matching) != 1:
        raise InfoscopeError(f"{path} has no result {name}: choose of {', '.join(folders)}")
    return matching[0]


def _probe(run: Run, folder: str) -> Removals:
    tables, unreadable = probe_tables(run)
    for table in tables:
        if f"probes/{table.folder}" == folder:
            return _of_table(table, folder)
    raise InfoscopeError(f"{run.path / folder} cannot be drawn: {'; '.join(unreadable)}")


def _of_table(table: ProbeTable, folder: str) -> Removals:
    factor = 100.0 if table.metric in SHARES else 1.0
    rows = [
        _removed(
            row["site"],
            row,
            row["score"],
            row["spread"],
            (row["difference"], row["difference_lower"], row["difference_upper"]),
            factor,
        )
        for row in table.rows
    ]
    return Removals(folder, _title(table.task, table.folder), titled(table.metric), rows)


def _zeroshot(run: Run, folder: str) -> Removals:
    table, unreadable = zeroshot_table(run)
    if table is None:
        raise InfoscopeError(f"{run.path / folder} cannot be drawn: {'; '.join(unreadable)}")
    # Without labels there is no accuracy; how sure the model is of its own choice is known all the same.
    name = "accuracy" if table.labelled else "confidence"
    changes = [f"{name}_change", f"{name}_change_ci_lower", f"{name}_change_ci_upper"]
    rows = [
        _removed("model", row, row[name], row[f"{name}_spread"], tuple(row[each] for each in changes), 100.0)
        for row in table.rows
    ]
    return Removals(folder, f"zero-shot, {table.source}", f"{name}, %", rows)


def _removed(
    site: str, row: dict[str, Any], score: float, spread: float | None, change: tuple[float | None, ...], factor: float
) -> Removed:
    """A row of a table as it is drawn: the spread about the score, or the interval of the change laid at it."""
    # An interval is of the difference; at the score it is as long, and beside what it is compared with.
    base, ends = score, change[1:]
    if spread is not None:
        ends = (-spread, spread)
    elif change[0] is not None:
        base = score - change[0]
    low, high = (None if end is None else factor * (base + end) for end in ends)
    return Removed(site, row["name"], row["draws"], factor * score, low, high)


def _selection(run: Run, folder: str) -> Steps:
    file, again = run.path / folder / SELECTION_FILE, "restore it, or select again into a new folder"
    record = read_record(_SelectionRecord, file, "a selection", again)
    steps = read_table(run.path / folder / "steps.parquet", STEPS)
    factor = 100.0 if record.metric in SHARES else 1.0
    score = pl.col("test") * factor
    untouched = steps.filter(pl.col("end").is_null())
    if untouched.is_empty():
        raise InfoscopeError(f"{run.path / folder} has no step without removal; select again")
    rows = (
        steps.filter(pl.col("end").is_not_null())
        .group_by("end", "match", "share", maintain_order=True)
        .agg(score.mean().alias("score"), score.std().alias("spread"))
        .with_columns(low=pl.col("score") - pl.col("spread"), high=pl.col("score") + pl.col("spread"))
    )
    return Steps(
        folder,
        _title(f"{record.task}, selection", folder.rpartition("/")[2]),
        titled(record.metric),
        record.selection.column,
        rows,
        float(np.mean(untouched["test"].to_numpy())) * factor,
    )


def _title(task: str, folder: str) -> str:
    """What a panel is called.

    Example:
        >>> _title("classification", "imagenette"), _title("depth", "depth")
        ('classification, imagenette', 'depth')
    """
    return task if folder == task else f"{task}, {folder}"
