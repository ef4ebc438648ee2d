"""What a command ends with, told to a person, to a program, or in a word."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from infoscope import __version__
from infoscope.cli.output import Output


@dataclass(frozen=True)
class Answer:
    """What a command found and wrote.

    Attributes:
        show: print it for people.
        result: main figures and counts, made when asked for; what `plain` takes.
        written: paths by name: files and folders that are there now. The first is the result's own.
        warnings: what speaks against the result, a line each.
        word: what ``--quiet`` prints; by default the first of ``written``, or nothing.
        then: what goes on once the answer is printed: a server.

    Example:
        >>> answer = Answer(lambda: print("a table"), lambda: {"cds": math.nan}, {"out": Path("run")})
        >>> answer.tell(Output(), "measure")
        a table
        >>> answer.tell(Output(quiet=True), "measure")
        run
        >>> print(json.dumps(answer.document("measure", ["few images"]) | {"version": "..."}))
        {"command": "measure", "version": "...", "written": {"out": "run"}, "warnings": ["few images"], "result": {"cds": null}}
    """  # noqa: E501

    show: Callable[[], None]
    result: Callable[[], Mapping[str, Any]]
    written: Mapping[str, Path] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    word: str | None = None
    then: Callable[[], None] | None = None

    def tell(self, output: Output, command: str, warned: Sequence[str] = ()) -> None:
        """Print it as the flags ask.

        Args:
            output: the flags.
            command: the command's name.
            warned: what was warned of on the way.
        """
        if output.json:
            print(json.dumps(self.document(command, warned), indent=2, allow_nan=False), flush=True)
        elif not output.quiet:
            self.show()
        elif self.word is not None:
            print(self.word)
        elif self.written:
            print(next(iter(self.written.values())))

    def document(self, command: str, warned: Sequence[str] = ()) -> dict[str, Any]:
        """The JSON document; docs/shell.md lists its keys."""
        document: dict[str, Any] = plain(
            {
                "command": command,
                "version": __version__,
                "written": self.written,
                "warnings": list(dict.fromkeys([*warned, *self.warnings])),
                "result": self.result(),
            }
        )
        return document


def plain(value: Any) -> Any:
    """JSON values: a number that is not one becomes None, a path its name, a dataclass an object, a tuple a list.

    Example:
        >>> plain({"cds": math.nan, 5: (Path("a"), math.inf, 1)})
        {'cds': None, '5': ['a', None, 1]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    # numpy's scalars and arrays; numpy itself would slow every command.
    return plain(value.tolist()) if hasattr(value, "tolist") else value
