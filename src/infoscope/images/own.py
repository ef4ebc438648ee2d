"""Directories that infoscope wrote, told from a user's by what their records hold."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import read_json
from infoscope.runtime.run import MANIFEST, PLAN
from infoscope.runtime.token_cache import FORMAT as TOKENS

# Our choice: far above the record of a run that skipped a million images.
LARGEST_RECORD = 2**28
SITE_SCRIPT = "data/run.js"
SITE_BEGINS = b'infoscope.put("run"'
TABLES = frozenset({"scope.parquet", "top_images.parquet"})
TRAINING_STATE = "unfinished"


def kind_of_own(folder: Path, names: Collection[str]) -> str | None:
    """What infoscope wrote into a folder that it has to itself; None for any other folder.

    A name alone says nothing, since photographs may well lie beside somebody's ``manifest.json``: the record in it is
    read. Records that are written into a folder that may be a user's own (``outliers.json``, ``comparison.json``) say
    nothing either, and there are no pictures among what is written with them.

    Args:
        folder: the folder.
        names: of the files and folders in it.

    Returns:
        ``run``, ``site``, ``token cache``, ``SAE`` or ``sweep``; None.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "manifest.json").write_text('{"name": "my album", "photographs": 24}')
        >>> kind_of_own(folder, ["manifest.json", "1.jpg"]) is None
        True
    """
    if TABLES.issubset(names):
        return "run"
    for needed, file, kind, is_own in _RECORDS:
        if needed in names and is_own(_record(folder / file)):
            return kind
    if "data" in names and _begins(folder / SITE_SCRIPT, SITE_BEGINS):
        return "site"
    if TRAINING_STATE in names and any((folder / TRAINING_STATE).glob("process-*.safetensors")):
        return "SAE"
    return None


def _is_run(record: dict[str, Any]) -> bool:
    return {"format_version", "command", "model", "dictionary", "images", "software"} <= record.keys()


def _is_plan(record: dict[str, Any]) -> bool:
    software = record.get("software")
    return isinstance(software, dict) and "infoscope" in software and "options" in record


def _is_tokens(record: dict[str, Any]) -> bool:
    return record.get("format") == TOKENS


def _is_tokens_plan(record: dict[str, Any]) -> bool:
    images = record.get("images")
    return {"model", "resize", "order"} <= record.keys() and isinstance(images, dict) and "ids_sha256" in images


def _is_sae(record: dict[str, Any]) -> bool:
    return record.get("format") == "infoscope" and "d_sae" in record


def _is_sweep(record: dict[str, Any]) -> bool:
    images = record.get("images")
    return {"model", "options"} <= record.keys() and isinstance(images, dict) and "ids_sha256" in images


# The entry that must be in the folder, the record, what it is of, and how its content is told.
_RECORDS: tuple[tuple[str, str, str, Callable[[dict[str, Any]], bool]], ...] = (
    (MANIFEST, MANIFEST, "run", _is_run),
    (MANIFEST, MANIFEST, "token cache", _is_tokens),
    (Path(PLAN).parts[0], PLAN, "run", _is_plan),
    ("plan.json", "plan.json", "token cache", _is_tokens_plan),
    ("sae.json", "sae.json", "SAE", _is_sae),
    ("sweep.json", "sweep.json", "sweep", _is_sweep),
)


def _record(file: Path) -> dict[str, Any]:
    """A record's content; empty for what is none."""
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_RECORD:
            return {}
        content = read_json(file)
    except (OSError, InfoscopeError):
        return {}
    return content if isinstance(content, dict) else {}


def _begins(file: Path, start: bytes) -> bool:
    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            return stream.read(len(start)) == start
    except OSError:
        return False
