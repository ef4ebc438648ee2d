"""JSON: the one way from values and dataclasses to JSON, and JSON files.

JSON has no NaN and no infinity. Only `to_json` here and `infoscope.runtime.typed.from_json`, the way back, deal with
them. Records with checksums are in `infoscope.runtime.seal`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import atomic_write
from infoscope.runtime.text import NotTextError, read_text


def write_json(path: Path, value: Any, flag: str = "--out") -> None:
    """Write JSON values as an indented file, atomically; NaN is refused, since JSON has none (see `to_json`).

    Args:
        path: the file.
        value: what `to_json` gives, or the like.
        flag: the option that names the folder, for the message.

    Raises:
        InfoscopeError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "value.json"
        >>> write_json(target, {"threshold": 0.2})
        >>> read_json(target)
        {'threshold': 0.2}
    """
    with atomic_write(path, flag) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The JSON value in a file.

    Raises:
        InfoscopeError: the file is missing, unreadable, not JSON, or nested more deeply than any of ours.
    """
    try:
        return json.loads(read_text(path))
    except NotTextError as error:
        raise InfoscopeError(f"{path} is not JSON: {error}") from error
    except RecursionError as error:
        raise InfoscopeError(f"{path} is nested too deeply to be read; restore it or make it again") from error
    except ValueError as error:
        raise InfoscopeError(f"{path} is not JSON ({error}); restore it or make it again") from error


def to_json(value: Any) -> Any:
    """A value as it reads back from a JSON file: a number that is not one is None, a path its name.

    Dataclasses are objects with their fields in order, tuples and arrays are lists, and keys are text.

    Example:
        >>> to_json({"cds": math.nan, 5: (Path("a"), math.inf, 1)})
        {'cds': None, '5': ['a', None, 1]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    # numpy's scalars and arrays, without numpy, which would slow the start of every command.
    return to_json(value.tolist()) if hasattr(value, "tolist") else value
