"""Directories that infoscope wrote, told from a user's own by what their records hold."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from infoscope.errors import InfoscopeError
from infoscope.runtime.json_values import read_json
from infoscope.runtime.run import MANIFEST, PLAN
from infoscope.runtime.token_cache import FORMAT as TOKENS

# Our choice: far above the record of a run that skipped a million images.
LARGEST_RECORD = 2**28
REPORT_SCRIPT = "data/run.js"
REPORT_BEGINS = b'infoscope.put("run"'
TABLES = frozenset({"scope.parquet", "top_images.parquet"})
TRAINING_STATE = "unfinished"

Record = dict[str, Any]


def _is_plan(record: Record) -> bool:
    software = record.get("software")
    return isinstance(software, dict) and "infoscope" in software and "options" in record


def _has(record: Record, *keys: str) -> bool:
    """Whether a record names its images as infoscope does and has the given keys."""
    images = record.get("images")
    return record.keys() >= set(keys) and isinstance(images, dict) and "ids_sha256" in images


_RUN_KEYS = {"format_version", "command", "model", "dictionary", "images", "software"}
# The entry that must be in the folder, the record to read, its kind, and how its content is recognised.
_RECORDS: tuple[tuple[str, str, str, Callable[[Record], bool]], ...] = (
    (MANIFEST, MANIFEST, "run", lambda record: record.keys() >= _RUN_KEYS),
    (MANIFEST, MANIFEST, "token cache", lambda record: record.get("format") == TOKENS),
    (Path(PLAN).parts[0], PLAN, "run", _is_plan),
    ("plan.json", "plan.json", "token cache", lambda record: _has(record, "model", "resize", "order")),
    ("sae.json", "sae.json", "SAE", lambda record: record.get("format") == "infoscope" and "d_sae" in record),
    ("sweep.json", "sweep.json", "sweep", lambda record: _has(record, "model", "options")),
)


def kind_of_output(folder: Path, names: Collection[str]) -> str | None:
    """What infoscope wrote into a folder that it has to itself; None for any other folder.

    A name alone proves nothing, since photographs may well lie beside somebody's ``manifest.json``, so the record in
    it is read. Records that go into a folder that may be a user's own (``outliers.json``, ``comparison.json``) prove
    nothing either, and no pictures are written with them.

    Args:
        folder: the folder.
        names: of the files and folders in it.

    Returns:
        ``run``, ``report``, ``token cache``, ``SAE`` or ``sweep``; None.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "manifest.json").write_text('{"name": "my album", "photographs": 24}')
        >>> kind_of_output(folder, ["manifest.json", "1.jpg"]) is None
        True
    """
    if TABLES.issubset(names):
        return "run"
    for entry, file, kind, is_own in _RECORDS:
        if entry in names and is_own(_read_record(folder / file)):
            return kind
    if "data" in names and _begins_with(folder / REPORT_SCRIPT, REPORT_BEGINS):
        return "report"
    if TRAINING_STATE in names and any((folder / TRAINING_STATE).glob("process-*.safetensors")):
        return "SAE"
    return None


def _read_record(file: Path) -> Record:
    """A record's content; empty where the file is not a record."""
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_RECORD:
            return {}
        content = read_json(file)
    except (OSError, InfoscopeError):
        return {}
    return content if isinstance(content, dict) else {}


def _begins_with(file: Path, start: bytes) -> bool:
    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            return stream.read(len(start)) == start
    except OSError:
        return False
