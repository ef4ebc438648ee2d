"""Files named by a pattern: ``shards/*.tar``, ``train-{000000..000099}.tar``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from infoscope.errors import InfoscopeError


def matching_files(pattern: str) -> list[Path]:
    """The files that a pattern names, as absolute paths, each once, by the bytes of their names.

    Braces are expanded first, and each name that they give must exist: a missing shard is an error, never a smaller
    set. Then ``*``, ``?``, ``[...]`` and ``**`` match as in a shell. What exists by its very name is taken by
    that name, whatever brackets it has.

    Raises:
        InfoscopeError: nothing matches, the pattern is no local path, or its braces cannot be read.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.tar", "a.tar", "a.json"):
        ...     (folder / name).touch()
        >>> [file.name for file in matching_files(f"{folder}/*.tar")]
        ['a.tar', 'b.tar']
    """
    if "://" in pattern or pattern.startswith("pipe:"):
        raise InfoscopeError(f"{pattern} is no local path; download the shards and give the folder that holds them")
    folder, rest = _existing(Path(pattern).expanduser().absolute())
    names = _braces(rest) if "{" in rest else [rest]
    found: set[Path] = set()
    for name in names:
        path = folder / name
        files = [path] if path.exists() else _visible(folder.glob(name))
        if not files:
            source = f" (from {pattern})" if len(names) > 1 else ""
            raise InfoscopeError(
                f"no such file: {path if source else pattern}{source}; check the name, or the numbers in braces"
            )
        for file in files:
            if not (file.is_file() or file.is_dir()):
                raise InfoscopeError(f"{file} is a pipe or device, no file; write its content to a file and name that")
        found.update(files)
    return sorted(found, key=os.fsencode)


def names_below_common_folder(files: Iterable[Path]) -> list[str]:
    """The shortest names that keep files apart: their paths below the folder that all share, with forward slashes.

    Example:
        >>> names_below_common_folder([Path("/d/a/x.tar"), Path("/d/b/x.tar")])
        ['a/x.tar', 'b/x.tar']
        >>> names_below_common_folder([Path("/d/a/x.tar")])
        ['x.tar']
    """
    files = list(files)
    common = os.path.commonpath([file.parent for file in files])
    return [os.fsencode(file.relative_to(common).as_posix()).decode("utf-8", "backslashreplace") for file in files]


def _existing(path: Path) -> tuple[Path, str]:
    """The folders that there are by these very names, and what is left: only that can be a pattern.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "photographs [2026]"
        >>> folder.mkdir()
        >>> found, rest = _existing(folder / "*.tar")
        >>> found == folder, rest
        (True, '*.tar')
    """
    folder, parts = Path(path.anchor), path.parts[1:]
    for place, part in enumerate(parts):
        if not (folder / part).exists():
            return folder, "/".join(parts[place:])
        folder /= part
    return folder, ""


def _visible(files: Iterable[Path]) -> list[Path]:
    return [file for file in files if not file.name.startswith(".")]


def _braces(pattern: str) -> list[str]:
    try:
        from braceexpand import braceexpand
    except ImportError as error:
        raise InfoscopeError(
            f"to expand the braces in {pattern}, install infoscope[webdataset], or use * in their place"
        ) from error
    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        raise InfoscopeError(
            f"the braces in {pattern} are not closed; close them, as in train-{{000..099}}.tar"
        ) from error
