"""Several files of a folder, replaced as if at once: an interruption leaves all of the old ones or all of the new.

No file system renames several files in one step. So the new files are first written whole into a folder of their own,
the record with their checksums last: from then on they count. They are then moved to their places one by one, and
whoever opens the folder next moves those that are still waiting.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import remedy_of

WAITING = "replacing"
"""The folder, inside the one whose files are replaced, in which the new ones wait."""


@contextmanager
def replacing(folder: Path, record: str) -> Iterator[Path]:
    """Yield a folder to write new files into, which replace those of the same names when the block ends well.

    Files may be in folders inside it; they then replace those in the folders of the same names.

    Args:
        folder: whose files are replaced.
        record: the file that must be written last; a folder in which it is missing is thrown away.

    Yields:
        The folder for the new files.

    Raises:
        InfoscopeError: it cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "table").write_text("old"), (folder / "record").write_text("old")
        >>> with replacing(folder, "record") as new:
        ...     _ = (new / "table").write_text("new"), (new / "record").write_text("new")
        >>> [(file.name, file.read_text()) for file in sorted(folder.iterdir())]
        [('record', 'new'), ('table', 'new')]
    """
    finish_replacing(folder, record)
    waiting = folder / WAITING
    try:
        if waiting.exists():  # of a process that was killed before the record was there
            shutil.rmtree(waiting)
        waiting.mkdir()
    except OSError as error:
        raise InfoscopeError(f"cannot write {waiting}: {error.strerror or error}; {remedy_of(error)}") from error
    try:
        yield waiting
    except BaseException:
        if not (waiting / record).is_file():
            shutil.rmtree(waiting, ignore_errors=True)
        raise
    finish_replacing(folder, record)


def finish_replacing(folder: Path, record: str) -> None:
    """Move new files that wait to their places, the record last; nothing is done where none wait.

    Args:
        folder: whose files are replaced.
        record: the file without which the waiting ones do not count.

    Raises:
        InfoscopeError: a file cannot be moved.

    Example:
        A process was killed after it had moved the first of two files:

        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / WAITING).mkdir()
        >>> _ = (folder / "table").write_text("new"), (folder / WAITING / "record").write_text("new")
        >>> finish_replacing(folder, "record")
        >>> [file.name for file in sorted(folder.iterdir())]
        ['record', 'table']
    """
    waiting = folder / WAITING
    if not (waiting / record).is_file():
        return
    try:
        folders = [waiting, *(inner for inner in sorted(waiting.rglob("*")) if inner.is_dir())]
        names = [str(file.relative_to(waiting)) for file in sorted(waiting.rglob("*")) if file not in folders]
        for name in [*(name for name in names if name != record), record]:
            (folder / name).parent.mkdir(exist_ok=True)
            # Another process that opened the folder may have moved it meanwhile.
            with suppress(FileNotFoundError):
                (waiting / name).replace(folder / name)
    except OSError as error:
        raise InfoscopeError(
            f"new files of {folder} wait in {waiting}, and cannot be moved: {error.strerror or error}; make {folder} "
            "writable and open it again"
        ) from error
    for emptied in reversed(folders):
        with suppress(OSError):  # what is left of it changes nothing
            emptied.rmdir()
