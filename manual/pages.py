"""What is made of the manual: pages of the commands and of the public names, and the tables of columns.

Run before the manual is built, so that none of them can be out of date; `make docs` does. The tables of columns are
kept with their page, docs/run-directory.md, and a test tells when they are out of date.

python manual/pages.py
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import tyro

import infoscope
from infoscope.cli.main import main
from infoscope.runtime.columns import Table

# As wide as a code block of the manual is on a desk.
COLUMNS = 84

# Subpackages of which every public function is documented: they are used without the rest, on arrays of one's own.
WHOLE = ("scope",)
# Rooms of several subjects, each with a page of its own.
SEVERAL = ("analyses", "views")
# The name of a subject in the navigation, where the subpackage's own does not read as one.
TITLES = {
    "planted_blobs": "Planted blobs",
    "runtime": "Runs and running",
    "scope": "Scope, on arrays",
    "zeroshot": "Zero-shot",
}


@dataclass(frozen=True)
class Options:
    """Where the pages go."""

    out: Path = Path("docs")
    """The folder of the manual's sources."""


def helped(*command: str) -> str:
    """What a command prints for ``--help``, in plain text."""
    said = io.StringIO()
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR", "TERM")}
    os.environ |= {"COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb"}
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main([*command, "--help"])
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()).splitlines()]
    return "\n".join(lines).strip("\n")


def command_names() -> list[str]:
    """The commands in the order in which ``infoscope --help`` lists them."""
    names = re.search(r"\{(\w[\w,\s-]*)\}", helped())
    assert names is not None, "infoscope --help lists no commands"
    return [name.strip() for name in names[1].split(",")]


def commands_page() -> str:
    """The page of all commands."""
    parts = [
        "# Commands",
        "What each command says of itself, made when this manual is built. `infoscope COMMAND --help` prints the same. "
        "Why each default is what it is: [defaults.md](defaults.md).",
        f"```text\n{helped()}\n```",
    ]
    for name in command_names():
        parts.append(f"## infoscope {name}\n\n```text\n{helped(name)}\n```")
    return "\n\n".join(parts) + "\n"


def place_of(name: str) -> str:
    """The subpackage that a public name is documented with: a room, or a subject in the rooms that hold several."""
    parts = infoscope._HOMES[name].split(".")
    return ".".join(parts[:2] if parts[0] in SEVERAL else parts[:1])


def subjects() -> dict[str, list[str]]:
    """The public names of each subject, in the order of their list."""
    found: dict[str, list[str]] = {}
    for name in infoscope.__all__:
        found.setdefault(place_of(name).split(".")[-1], []).append(name)
    return dict(sorted(found.items()))


def subject_page(subject: str, names: list[str]) -> str:
    """The page of one subject."""
    modules = [importlib.import_module(f"infoscope.{place}") for place in sorted({place_of(name) for name in names})]
    parts = [f"# {title(subject)}", *((module.__doc__ or "").strip() for module in modules)]
    parts += [f"::: infoscope.{name}" for name in names]
    if subject in WHOLE:
        parts.append(
            f"Everything below is imported from its module, such as `infoscope.{subject}.emd`. It needs numpy and "
            "scipy, and knows no images, models or files."
        )
        for found in pkgutil.iter_modules(modules[0].__path__, f"infoscope.{subject}."):
            if not found.name.endswith("_kernel"):
                parts.append(f"::: {found.name}\n    options:\n      show_root_full_path: true")
    return "\n\n".join(parts) + "\n"


def title(subject: str) -> str:
    """A subpackage's name as a heading."""
    return TITLES.get(subject, subject.capitalize())


def index_page(found: dict[str, list[str]]) -> str:
    """The page that lists the subjects."""
    lines = [
        "# Python",
        "Everything public is a name of `infoscope` itself: `import infoscope`, then `infoscope.measure_scope`. "
        "Nothing heavy is imported before a name is used. Examples in these pages run as tests.",
        "| subject | names |\n|---|---|\n"
        + "\n".join(
            f"| [{title(subject)}]({subject}.md) | "
            + ", ".join(f"[`{name}`]({subject}.md#infoscope.{name})" for name in names)
            + " |"
            for subject, names in found.items()
        ),
    ]
    return "\n\n".join(lines) + "\n"


_MARKED = re.compile(r"(<!-- columns: ([\w.]+) -->\n).*?(<!-- end of columns -->)", re.DOTALL)


def with_column_tables(text: str) -> str:
    """A page with a table between each pair of markers, made from the declaration that the first of them names."""

    def filled(marked: re.Match[str]) -> str:
        module, _, name = marked[2].rpartition(".")
        return f"{marked[1]}\n{column_table(getattr(importlib.import_module(module), name))}\n\n{marked[3]}"

    return _MARKED.sub(filled, text)


def column_table(columns: Table) -> str:
    """The columns of a table, a row each; the two ends of an interval share the row of what they are ends of."""
    rows: dict[str, list[str]] = {}
    for name in columns:
        base = re.sub(r"(_ci)?_(lower|upper)$", "", name)
        rows.setdefault(base if base in columns else name, []).append(name)
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for names in rows.values():
        declared = [columns[name] for name in names]
        cells = [
            ", ".join(f"`{name}`" for name in names),
            ", ".join(dict.fromkeys(type_name(column.dtype) for column in declared)),
            coded(declared[0].unit),
            "; ".join(coded(column.meaning) for column in declared),
        ]
        if versions := {column.since for column in declared if column.since}:
            cells[-1] += f"; since {', '.join(sorted(versions))}, null in older runs"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def type_name(dtype: Any) -> str:
    """A column's type as the manual writes it: u32, f64, string, list of f32."""
    if isinstance(dtype, pl.List):
        return f"list of {type_name(dtype.inner)}"
    short = {"Int": "i", "UInt": "u", "Float": "f", "String": "string", "Boolean": "bool"}
    return re.sub("^[A-Za-z]+", lambda word: short[word[0]], str(dtype))


def coded(text: str) -> str:
    """A text with the names of columns and options as code."""
    return re.sub(r"\b(cds|\w+_\w+)\b(?![.\w])", r"`\1`", text)


def write(path: Path, text: str) -> None:
    """Write what differs, so that a page that is the same is not built again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def make(out: Path) -> None:
    """Write all pages."""
    write(out / "commands.md", commands_page())
    page = out / "run-directory.md"
    write(page, with_column_tables(page.read_text(encoding="utf-8")))
    found = subjects()
    write(out / "api" / "index.md", index_page(found))
    for subject, names in found.items():
        write(out / "api" / f"{subject}.md", subject_page(subject, names))


if __name__ == "__main__":
    make(tyro.cli(Options).out)
