"""``infoscope table``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import tyro

from infoscope.errors import InfoscopeError
from infoscope.probes.reported import ReportedModel

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from infoscope.probes.result import ProbeResult


@dataclass(frozen=True)
class Table:
    """Put several probes into one table, a column each; beside the paper's figures where they are asked for."""

    probes: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that `infoscope probe` wrote."""
    reported: ReportedModel | None = None
    """Print the paper's figures for this model too, as reported by a secondary source, and how the protocols differ."""
    row: str | None = None
    """One row alone: nothing, high-CDS, low-CDS, or a variant's name."""
    json: bool = False
    """Print JSON in place of the table."""

    interrupted: ClassVar[str] = "nothing was written"

    def __post_init__(self) -> None:
        if not self.probes:
            raise InfoscopeError("name at least one folder that `infoscope probe` wrote")

    def run(self) -> None:
        """Run the command."""
        from rich.console import Console

        from infoscope.cli.summary import print_rows
        from infoscope.probes.reported import AS_REPORTED, SOURCE, protocol_differences
        from infoscope.probes.result import open_probe

        results = [open_probe(path) for path in self.probes]
        rows = self._rows(results)
        differences = list(dict.fromkeys(each for result in results for each in protocol_differences(result.record)))
        if self.json:
            print(json.dumps({"rows": rows, "differences": differences if self.reported else []}, indent=2))
            return
        Console(highlight=False).print(self._table(results, rows))
        if self.reported:
            print_rows([("reported", f"{SOURCE}; {AS_REPORTED}"), *[("protocol", each) for each in differences]])

    def _rows(self, results: list[ProbeResult]) -> list[dict[str, Any]]:
        """One a site and variant: each probe's score by its task, and the reported one."""
        from infoscope.probes.reported import ROWS, reported_score

        wanted = ROWS.get(self.row, self.row) if self.row else None
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for result in results:
            record = result.record
            for entry in result.table.filter(metric=record.metric).to_dicts():
                if wanted and entry["name"] != wanted:
                    continue
                row = rows.setdefault(
                    (entry["site"], entry["name"]), {"site": entry["site"], "name": entry["name"], "scores": {}}
                )
                row["scores"][record.task] = {
                    "metric": record.metric,
                    **{key: entry[key] for key in ("score", "spread", "draws", "difference")},
                    "reported": reported_score(self.reported, entry["name"], record.task) if self.reported else None,
                }
        if not rows:
            raise InfoscopeError(
                f"no probe has a row {self.row!r}: give nothing, high-CDS, low-CDS or a variant's name"
            )
        return list(rows.values())

    def _table(self, results: list[ProbeResult], rows: list[dict[str, Any]]) -> RichTable:
        from rich.table import Table as RichTable

        from infoscope.cli.probe_summary import score, short_name

        tasks = list(dict.fromkeys(result.record.task for result in results))
        metric = {result.record.task: result.record.metric for result in results}
        table = RichTable(box=None, pad_edge=False)
        table.add_column("site")
        table.add_column("", no_wrap=True)
        for task in tasks:
            table.add_column(f"{task}, {metric[task]}", justify="right")
            if self.reported:
                table.add_column("as reported", justify="right")
        for row in rows:
            cells = []
            for task in tasks:
                entry = row["scores"].get(task)
                text = "" if entry is None else score(entry["metric"], entry["score"])
                if entry and entry["spread"] is not None:
                    scale = 100 if text.endswith("%") else 1
                    text += f" ± {scale * entry['spread']:.{2 if scale == 100 else 4}f}"
                cells.append(text)
                if self.reported:
                    known = None if entry is None else entry["reported"]
                    cells.append("" if known is None else f"{known:g}" + ("" if task == "depth" else " %"))
            draws = max(entry["draws"] for entry in row["scores"].values())
            table.add_row(row["site"], short_name(row["name"], draws), *cells)
        return table
