"""What ``probe.json`` holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infoscope.errors import InfoscopeError
from infoscope.runtime.manifest import DictionaryRecord, ModelRecord, SkippedImage
from infoscope.runtime.seal import CHECKSUM, FILES
from infoscope.runtime.typed import from_json

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Baseline:
    """A score without a model.

    Attributes:
        name: ``majority`` or ``colours``.
        test: scores on the test split by name.
        validation: the metric where the choice was made; None where there is none.
        per_class: the score of each class.
        notes: what a reader must know.
    """

    name: str
    test: dict[str, float]
    validation: float | None
    per_class: dict[str, float | None]
    notes: list[str]


@dataclass(frozen=True)
class ProbeRecord:
    """All of ``probe.json``.

    Attributes:
        format_version: raised when a field or a table changes its meaning.
        command: how it was asked for.
        run: the run whose feature groups were removed.
        task: classification, segmentation or depth.
        metric: the score that choices are made by.
        higher_is_better: whether a high score is a good one.
        recipe: its name, version and every constant, as used at each site.
        options: all of them, with defaults.
        model: the model at the SAE's block.
        dictionary: the SAE.
        token_set: the tokens that were edited.
        data: the data sets.
        skipped: by split, the images that could not be read.
        groups: by variant, the features removed, of those that no table names.
        chosen: by variant, what the head chose on held-out data.
        baselines: scores without a model.
        notes: what a reader must know.
        software: versions.
        timings: seconds by stage.
    """

    format_version: int
    command: str
    run: str
    task: str
    metric: str
    higher_is_better: bool
    recipe: dict[str, Any]
    options: dict[str, Any]
    model: ModelRecord
    dictionary: DictionaryRecord
    token_set: str
    data: dict[str, Any]
    skipped: dict[str, list[SkippedImage]]
    groups: dict[str, list[int]]
    chosen: list[dict[str, Any]]
    baselines: list[Baseline]
    notes: list[str]
    software: dict[str, str]
    timings: dict[str, float]

    @classmethod
    def from_json(cls, value: Any, path: Path) -> ProbeRecord:
        """What ``probe.json`` held.

        Raises:
            InfoscopeError: it is of another version, or an entry is of another type.
        """
        if not isinstance(value, dict) or value.get("format_version") != FORMAT_VERSION:
            raise InfoscopeError(f"{path} holds a probe of another version: probe again")
        entries = {name: entry for name, entry in value.items() if name not in (CHECKSUM, FILES)}
        try:
            record: ProbeRecord = from_json(cls, entries)
        except ValueError as error:
            raise InfoscopeError(f"{path} holds no record of a probe ({error}): probe again") from error
        return record
