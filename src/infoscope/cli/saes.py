"""``infoscope saes``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, ClassVar

import tyro

from infoscope.cli.output import Answer, Output, console, print_rows

if TYPE_CHECKING:
    from infoscope.dictionaries.registry import KnownSAE

UNKNOWN = "not stated"


@dataclass(frozen=True)
class Saes:
    """List the known public SAEs, or show one in full. Nothing is fetched."""

    name: tyro.conf.Positional[str | None] = None
    """A name from the list."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "nothing was written"

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.dictionaries.registry import KNOWN, known_sae

        one = None if self.name is None else known_sae(self.name)
        entries = KNOWN if one is None else (one,)
        return Answer(
            lambda: _print_all(KNOWN) if one is None else _print_one(one),
            lambda: {"saes": [asdict(entry) for entry in entries]},
            word="\n".join(entry.name for entry in entries),
        )


def _print_one(entry: KnownSAE) -> None:

    maps = f"{entry.patch_maps}: {entry.why}" if entry.why else entry.patch_maps
    rows = {
        "name": entry.name,
        "hub id": entry.hub_id or UNKNOWN,
        "folder": entry.folder,
        "model": entry.model or UNKNOWN,
        "block": _shown(entry.block),
        "tokens": entry.tokens or UNKNOWN,
        "features": UNKNOWN if entry.features is None else f"{entry.features:,}",
        "activation": entry.activation or UNKNOWN,
        "format": entry.format,
        "patch maps": maps,
        "to know": entry.notes,
        "source": entry.source,
    }
    print_rows([(name, value) for name, value in rows.items() if value])


def _print_all(entries: tuple[KnownSAE, ...]) -> None:
    """A table a model, since the models' names alone would fill a terminal."""
    from itertools import groupby

    from rich.table import Table
    from rich.text import Text

    def table(headed: bool) -> Table:
        columns = Table(box=None, padding=(0, 1), show_header=headed)
        for title, width in (("name", 22), ("block", 5), ("tokens", 6), ("features", 8), ("activation", 16)):
            right = title in ("block", "features")
            columns.add_column(title, justify="right" if right else "left", width=width)
        columns.add_column("maps", width=8)
        return columns

    out = console()
    out.print(table(headed=True))
    for model, group in groupby(entries, key=lambda entry: entry.model):
        rows = table(headed=False)
        for entry in group:
            cells = (
                entry.name,
                "-" if entry.block is None else str(entry.block),
                entry.tokens or "-",
                "-" if entry.features is None else f"{entry.features:,}",
                entry.activation or "-",
                entry.patch_maps,
            )
            rows.add_row(*(Text(cell) for cell in cells))
        out.print(Text(f"\n {model or 'model not stated'}", style="bold"))
        out.print(rows)
    print("\n- is not stated; doubtful: trained on CLS tokens only. infoscope saes NAME shows one in full.")


def _shown(block: int | None) -> str:
    return UNKNOWN if block is None else f"{block}, from 0"
