"""Extracts every variant's features and trains a head on each; what is finished is kept, and the rest resumes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from infoscope.analyses.probes.config import ProbeConfig
from infoscope.analyses.probes.store import FeatureStore, Readout, Wanted, extract
from infoscope.analyses.probes.task import Score, Scored, Task
from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.variants import Variant
from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.options import Resize
from infoscope.runtime.execution import Execution
from infoscope.runtime.progress import tell
from infoscope.runtime.seal import read_sealed, write_sealed
from infoscope.runtime.typed import from_json


def score_variants(
    edited: EditedBackbone,
    task: Task,
    variants: Sequence[Variant],
    config: ProbeConfig,
    folder: Path,
    resize: Resize,
    execution: Execution,
) -> tuple[list[Scored], dict[str, dict[int, str]]]:
    """Extract each variant's features, train a head on them and score it.

    Args:
        edited: the model and what is needed to edit it.
        task: images and their labels.
        variants: the variants, in the order of the rows.
        config: the options.
        folder: where features and finished scores are kept, of this probe alone.
        resize: how an image becomes square.
        execution: how the passes run; it changes memory and speed, not the result.

    Returns:
        The scores in the order of ``variants``, and by split the images that could not be read, with the reason.

    Raises:
        InfoscopeError: a split has no readable image, the task's head refuses the features, or the disk is full.
    """
    readouts = [
        task.readout(task.recipe_at(config.recipe, variant.site, edited.token_set), edited.backbone)
        for variant in variants
    ]
    at_site = [readout for variant, readout in zip(variants, readouts, strict=True) if variant.site == "site"]
    if edited.token_set == "cls" and any(readout.patches for readout in at_site):
        raise InfoscopeError(
            f"the SAE {edited.sae.name} is of CLS tokens, and {task.name} at the site reads patches: give --sites rerun"
        )
    finished = FinishedScores(folder)
    left = [number for number in range(len(variants)) if finished.score(number) is None]
    if not config.keep_features:
        # A start that was killed may have written a variant's score and not yet removed its features.
        for number in set(range(len(variants))) - set(left):
            for split in task.splits:
                shutil.rmtree(_features(folder, split, number), ignore_errors=True)
    skipped = finished.skipped()
    groups = list(_groups(left, readouts, task, edited.backbone, config))
    if len(groups) > 1:
        tell(
            f"infoscope: the features of {len(left)} variants do not fit into --disk-gib {config.disk_gib:g} together: "
            f"the images are passed over {len(groups)} times"
        )
    # All variants of a group are extracted in one pass, since the blocks before the edit are the same for all of them.
    for group in groups:
        stores: dict[int, dict[str, FeatureStore]] = {number: {} for number in group}
        for split, images in task.splits.items():
            wanted = []
            for number in group:
                path = _features(folder, split, number)
                arrays = readouts[number].arrays(edited.backbone, config.feature_type)
                store = FeatureStore(path, len(images), arrays)
                stores[number][split] = store
                wanted.append(Wanted(variants[number], readouts[number], store))
            extract(
                edited,
                images,
                wanted,
                resize=resize,
                execution=execution,
                title=f"Extracting {len(group)} of {len(variants)} variants, {split}",
            )
            skipped[split] = stores[group[0]][split].skipped
        finished.note_skipped(skipped)
        for number in group:
            variant = variants[number]
            recipe = task.recipe_at(config.recipe, variant.site, edited.token_set)
            score = task.fit(stores[number], recipe, edited.backbone, config.seed)
            finished.keep(number, variant, score)
            if not config.keep_features:
                for store in stores[number].values():
                    store.remove()
    scores = [finished.score(number) for number in range(len(variants))]
    return [Scored(variant, score) for variant, score in zip(variants, scores, strict=True) if score], skipped


def _features(folder: Path, split: str, number: int) -> Path:
    """Where a variant's features on a split are while its head is trained."""
    return folder / "features" / split / f"{number:04}"


def _groups(
    left: Sequence[int], readouts: Sequence[Readout], task: Task, backbone: Backbone, config: ProbeConfig
) -> Iterator[list[int]]:
    """Variants whose features fit on the disk together; one at least."""
    group: list[int] = []
    size = 0
    images = sum(len(split) for split in task.splits.values())
    for number in left:
        arrays = readouts[number].arrays(backbone, config.feature_type)
        own = images * sum(array.bytes for array in arrays.values())
        if group and size + own > config.disk_gib * 2**30:
            yield group
            group, size = [], 0
        group.append(number)
        size += own
    if group:
        yield group


_SKIPPED = "skipped.json"
_AGAIN = "delete it and run the same command again"


class FinishedScores:
    """Finished scores, a file each."""

    def __init__(self, folder: Path):
        self._folder = folder

    def score(self, number: int) -> Score | None:
        """A variant's; None where it is not finished.

        Raises:
            InfoscopeError: the file is damaged.
        """
        path = self._path(number)
        if not path.is_file():
            return None
        value = read_sealed(path, _AGAIN)
        try:
            score: Score = from_json(Score, value, other_entries=True)
        except ValueError as error:
            raise InfoscopeError(f"{path} is no finished score ({error}); {_AGAIN}") from error
        return score

    def keep(self, number: int, variant: Variant, score: Score) -> None:
        """Write a variant's score."""
        write_sealed(self._path(number), {"variant": f"{variant.label} ({variant.site})", **asdict(score)})

    def skipped(self) -> dict[str, dict[int, str]]:
        """By split, the images that could not be read, with the reason.

        Raises:
            InfoscopeError: the file is damaged.
        """
        path = self._folder / _SKIPPED
        value = read_sealed(path, _AGAIN) if path.is_file() else {}
        # As it is written, and as it was before it had a checksum.
        value = value.get("skipped", value) if isinstance(value, dict) else value
        try:
            skipped: dict[str, dict[str, str]] = from_json(dict[str, dict[str, str]], value)
            return {split: {int(at): why for at, why in images.items()} for split, images in skipped.items()}
        except ValueError as error:
            raise InfoscopeError(f"{path} names no skipped images ({error}); {_AGAIN}") from error

    def note_skipped(self, skipped: Mapping[str, Mapping[int, str]]) -> None:
        """Write those."""
        write_sealed(self._folder / _SKIPPED, {"skipped": skipped})

    def _path(self, number: int) -> Path:
        return self._folder / "scores" / f"{number:04}.json"
