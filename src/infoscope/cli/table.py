"""``infoscope table``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import tyro

from infoscope.cli.output import Answer, Output, console, plain_table, print_rows
from infoscope.errors import InfoscopeError
from infoscope.options import ReportedModel

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from infoscope.analyses.probes.result import ProbeResult

SEPARATOR = ": "


@dataclass(frozen=True)
class Table:
    """Put several probes into one table, a column each; beside the paper's figures where they are asked for."""

    probes: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that `infoscope probe` wrote."""
    reported: ReportedModel | None = None
    """Print the paper's figures for this model too, as reported by a secondary source, and how the protocols differ."""
    row: str | None = None
    """One row alone: nothing, high-CDS, low-CDS, or a variant's name."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "nothing was written"

    def __post_init__(self) -> None:
        if not self.probes:
            raise InfoscopeError("name at least one folder that `infoscope probe` wrote")

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.analyses.probes.reported import AS_REPORTED, SOURCE, protocol_differences
        from infoscope.analyses.probes.result import open_probe

        paths = {path.expanduser().resolve(): path for path in self.probes}
        results = _titled({path: open_probe(path) for path in paths.values()})
        rows = self._rows(results)
        differences: dict[str, None] = {}  # in order, each once
        if self.reported is not None:
            for result in results.values():
                differences |= dict.fromkeys(protocol_differences(result.record, self.reported))

        leaks = _leaks(results)

        def show() -> None:
            console().print(self._table(results, rows))
            if leaks:
                print_rows([("test images", line) for line in leaks])
            if self.reported:
                print_rows([("reported", f"{SOURCE}; {AS_REPORTED}"), *[("protocol", line) for line in differences]])

        return Answer(show, lambda: {"rows": rows, "differences": list(differences)}, warnings=leaks)

    def _rows(self, results: dict[str, ProbeResult]) -> list[dict[str, Any]]:
        """One a site and variant: each probe's score by its title, and the reported one."""
        from infoscope.analyses.probes.reported import ROWS, reported_score

        wanted = ROWS.get(self.row, self.row) if self.row else None
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for title, result in results.items():
            record = result.record
            for entry in result.table.filter(metric=record.metric).to_dicts():
                # The sets of a ladder have a table of their own, and no counterpart in the paper's.
                if entry["side"] is not None or (wanted and entry["name"] != wanted):
                    continue
                row = rows.setdefault(
                    (entry["site"], entry["name"]), {"site": entry["site"], "name": entry["name"], "scores": {}}
                )
                row["scores"][title] = {
                    "task": record.task,
                    "metric": record.metric,
                    **{key: entry[key] for key in ("energy_share", "score", "spread", "draws", "difference")},
                    "reported": reported_score(self.reported, entry["name"], record.task) if self.reported else None,
                }
        if not rows:
            raise InfoscopeError(
                f"no probe has a row {self.row!r}: give nothing, high-CDS, low-CDS or a variant's name"
            )
        return list(rows.values())

    def _table(self, results: dict[str, ProbeResult], rows: list[dict[str, Any]]) -> RichTable:
        from infoscope.analyses.probes.result import short_name, titled
        from infoscope.cli.probe_summary import with_spread

        heads = ["site", ""]
        for title, result in results.items():
            task, _, folder = title.partition(SEPARATOR)
            heads.append(f"{task}, {titled(result.record.metric)}" + (f", {folder}" if folder else ""))
            heads += ["as reported"] if self.reported else []
        table = plain_table(None, heads, left=2, unbroken=[1])
        for row in rows:
            cells = []
            for title, result in results.items():
                entry = row["scores"].get(title)
                cells.append("" if entry is None else with_spread(entry["metric"], entry))
                if self.reported:
                    known = None if entry is None else entry["reported"]
                    cells.append(
                        "" if known is None else f"{known:g}" + ("" if result.record.task == "depth" else " %")
                    )
            draws = max(entry["draws"] for entry in row["scores"].values())
            table.add_row(row["site"], short_name(row["name"], draws), *cells)
        return table


def _leaks(results: dict[str, ProbeResult]) -> list[str]:
    """What speaks against the test images of each probe, a line each, under the probe's title."""
    shared = {title: result.record.shared_images for title, result in results.items()}
    return [f"{title}: {line}" for title, record in shared.items() if record for line in record.warnings]


def _titled(results: dict[Path, ProbeResult]) -> dict[str, ProbeResult]:
    """Each probe under its task; where several have one task, with its folder's name or, if shared, its path."""
    tasks = [result.record.task for result in results.values()]
    names = [path.name for path in results]
    titled = {}
    for path, result in results.items():
        folder = path.name if names.count(path.name) == 1 else str(path)
        task = result.record.task
        titled[task if tasks.count(task) == 1 else f"{task}{SEPARATOR}{folder}"] = result
    return titled
