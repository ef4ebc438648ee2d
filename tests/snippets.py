"""The commands and code of README.md and the manual, found in their Markdown."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What a line of a block must begin with to be a command. Other lines are what a command prints, or a layout of files.
PROGRAMS = ("infoscope", "python", "pip", "make", "torchrun", "cd", "npm")
LANGUAGES = {
    "python": "python",
    "bash": "shell",
    "sh": "shell",
    "": "shell",
    "text": None,
    "bibtex": None,
    "console": None,
}


@dataclass(frozen=True)
class Snippet:
    """A command, or a block of Python.

    Attributes:
        place: file and line, for messages.
        kind: ``python``, ``block`` (a command on a line of its own) or ``inline`` (one named in a sentence).
        text: the command without comment and continuation, or the code.
    """

    place: str
    kind: str
    text: str

    @property
    def words(self) -> list[str]:
        """The command as a shell hands it over; where its output goes is no part of it."""
        words = shlex.split(self.text)
        return words[: next((at for at, word in enumerate(words) if word in (">", "|")), len(words))]


def documents() -> list[Path]:
    """README.md and the manual's pages but for those that are made of the code itself."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    made = {ROOT / "docs" / "commands.md", *(ROOT / "docs" / "api").glob("*.md")}
    return [ROOT / "README.md", *(page for page in pages if page not in made)]


def snippets(document: Path) -> list[Snippet]:
    """All of a page, in order."""
    name = document.relative_to(ROOT)
    found: list[Snippet] = []
    prose: list[tuple[int, str]] = []
    block: list[str] = []
    language: str | None = None  # of the fence that is open
    indented = False
    lines = document.read_text().splitlines()
    for number, line in enumerate([*lines, ""], 1):
        fence = re.match(r"\s*```(\w*)", line)
        if language is not None:
            if fence:
                assert language in LANGUAGES, f"{name}:{number}: a block in {language!r}: say how it is tested"
                kind = LANGUAGES[language]
                if kind == "python":
                    found.append(Snippet(f"{name}:{number}", "python", "\n".join(block)))
                elif kind == "shell":
                    found += _commands(f"{name}:{number}", block)
                language, block = None, []
            else:
                block.append(line)
            continue
        # A code block by indentation follows an empty line or a heading, not a line of a list or paragraph.
        begins = number == 1 or not lines[number - 2].strip() or lines[number - 2].startswith("#")
        if line.startswith("    ") and (indented or begins):
            indented = True
            block.append(line[4:])
            continue
        if indented and line.strip():
            found += _commands(f"{name}:{number}", block)
            indented, block = False, []
        if fence:
            language = fence[1]
        elif not indented:
            prose.append((number, line))
    found += _commands(f"{name}:{len(lines)}", block)
    return found + _inline(str(name), prose)


def _commands(place: str, block: list[str]) -> list[Snippet]:
    """The commands among a block's lines."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(block))
    found = []
    for line in joined.splitlines():
        line = line.strip().removeprefix("$ ")
        for part in re.split(r"\s&&\s", line):
            if part.split(" ")[0] in PROGRAMS:
                found.append(Snippet(place, "block", shlex.join(shlex.split(part, comments=True))))
    return found


def _inline(name: str, prose: list[tuple[int, str]]) -> list[Snippet]:
    """The commands named in sentences. A command without arguments is a name and not an instruction."""
    text = "\n".join(line for _, line in prose)
    starts, at = [], 0
    for _, line in prose:
        starts.append(at)
        at += len(line) + 1
    found = []
    for match in re.finditer(r"`(?:[A-Z_]+=\S+ )?((?:infoscope|python|make|torchrun)\s[^`]+)`", text):
        words = match[1].split()
        if words[0] == "infoscope" and len(words) < 3:
            continue
        line = max(index for index, start in enumerate(starts) if start <= match.start())
        found.append(Snippet(f"{name}:{prose[line][0]}", "inline", " ".join(words)))
    return found
