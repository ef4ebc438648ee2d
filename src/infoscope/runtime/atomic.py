"""Files appear whole or not at all: written to a temporary name beside the target, then renamed."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

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
        raise InfoscopeError(f"cannot write {path}: {error.strerror or error}; {remedy_of(error, flag)}") from error
    finally:
        # It only exists when the block failed; a full disk or a lost folder must not hide the first error.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


_FULL = (errno.ENOSPC, errno.EDQUOT)
# What helps against an error of the system, besides choosing another folder.
_REMEDIES = {
    errno.EACCES: "set its permissions",
    errno.EPERM: "set its permissions",
    errno.EROFS: "mount the disk so that it can be written to",
    errno.ENAMETOOLONG: "shorten the name",
    errno.EFBIG: "raise the limit on the size of a file",
    errno.ENOTDIR: "remove the file that is where a folder should be",
    errno.EEXIST: "remove the file that is where a folder should be",
    errno.EISDIR: "remove the folder that is where the file should be",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close files of other programs",
    errno.EIO: "check the disk",
}
# As polars and safetensors hand on an error of the system: "... (os error 28)".
_NUMBERED = re.compile(r"os error (\d+)")


def remedy_of(error: BaseException, flag: str = "--out") -> str:
    """What to do where writing failed: only a full disk is helped by freeing space.

    Args:
        error: what was raised, by the system or by a library that says which error of the system it was.
        flag: the option that names the folder.

    Example:
        >>> remedy_of(OSError(errno.ENOSPC, "No space left on device"), "--cache")
        'free the space or choose another --cache'
        >>> remedy_of(PermissionError(errno.EACCES, "Permission denied"))
        'set its permissions or choose another --out'
        >>> remedy_of(RuntimeError("Name too long (os error 36)")), remedy_of(RuntimeError("other"))
        ('shorten the name or choose another --out', 'choose another --out')
    """
    found = _NUMBERED.search(str(error))
    number = int(found[1]) if found else error.errno if isinstance(error, OSError) else None
    advice = "free the space" if number in _FULL else _REMEDIES.get(number) if number is not None else None
    return f"{advice} or choose another {flag}" if advice else f"choose another {flag}"


def remove_leftovers(folder: Path, untouched: float = 0.0) -> None:
    """Remove temporary files, in the folder and below, of processes that were killed while they wrote.

    Args:
        folder: where to look.
        untouched: seconds; files written to more recently are kept, because another process may be writing them.

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


def remove_leftovers_of(files: Iterable[Path]) -> None:
    """Remove temporary files of killed processes that were writing some files, in folders that may be anybody's.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in (".table.parquet.77.tmp", ".other.tmp"):
        ...     (folder / name).touch()
        >>> remove_leftovers_of([folder / "table.parquet"])
        >>> [file.name for file in folder.iterdir()]
        ['.other.tmp']
    """
    for file in files:
        for leftover in file.parent.glob(f".{escape(file.name)}.*.tmp"):
            with suppress(OSError):  # gone already
                leftover.unlink()
