"""Files appear whole or not at all: written to a temporary name beside the target, then renamed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from infoscope.errors import InfoscopeError


@contextmanager
def atomic_write(path: Path, flag: str = "--out") -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block ends well and vanishes when it does not.

    Args:
        path: the file to write; its folder is created when missing.
        flag: the option that names the folder, for the message.

    Yields:
        A path in the same folder, to be written and closed inside the block.

    Raises:
        InfoscopeError: the file cannot be written (no permission, no space, a file where a folder should be).

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with atomic_write(target) as temporary:
        ...     _ = temporary.write_text("1 2 3")
        >>> target.read_text(), [file.name for file in target.parent.iterdir()]
        ('1 2 3', ['numbers.txt'])
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InfoscopeError(
            f"cannot write {path}: {error.strerror or error}; free the space or choose another {flag}"
        ) from error
    finally:
        # Only there when the block failed; a full disk or a lost folder must not hide the first error.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, untouched: float = 0.0) -> None:
    """Remove temporary files, in the folder and below, of processes that were killed while they wrote.

    Args:
        folder: where to look.
        untouched: only those that nobody has written to for so many seconds; another process may be at work on them.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / ".table.parquet.77.tmp").touch()
        >>> remove_leftovers(folder, untouched=60.0)
        >>> [file.name for file in folder.iterdir()]
        ['.table.parquet.77.tmp']
        >>> remove_leftovers(folder)
        >>> [file.name for file in folder.iterdir()]
        []
    """
    for leftover in folder.rglob(".*.tmp"):
        with suppress(OSError):  # gone already
            if not untouched or time.time() - leftover.stat().st_mtime >= untouched:
                leftover.unlink()


def write_json(path: Path, value: Any, flag: str = "--out") -> None:
    """Write ``value`` as indented JSON, atomically; NaN is refused, since JSON has none.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "value.json"
        >>> write_json(target, {"threshold": 0.2})
        >>> read_json(target)
        {'threshold': 0.2}
    """
    with atomic_write(path, flag) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def as_read(value: Any) -> Any:
    """A value as it reads back from a JSON file, where tuples are lists and keys are text.

    Example:
        >>> as_read({1: (2, 3)})
        {'1': [2, 3]}
    """
    return json.loads(json.dumps(value))


def read_json(path: Path) -> Any:
    """The JSON value in ``path``.

    Raises:
        InfoscopeError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InfoscopeError(
            f"cannot read {path}: {error.strerror or error}; check the path and its permissions"
        ) from error
    except ValueError as error:
        raise InfoscopeError(f"{path} is not JSON ({error}); restore it or make it anew") from error
