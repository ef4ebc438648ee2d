"""Every variant's features extracted, and a head trained on each: finished variants are kept, the rest goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from infoscope.analyses.probes.config import ProbeConfig
from infoscope.analyses.probes.recipes import Recipe, find_recipe
from infoscope.analyses.probes.store import FeatureStore, Readout, Wanted, extract
from infoscope.analyses.probes.task import Score, Task
from infoscope.analyses.removal.config import Site
from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.variants import Variant
from infoscope.backbones.families import TokenSet
from infoscope.errors import InfoscopeError
from infoscope.runtime.choices import Resize
from infoscope.runtime.progress import tell
from infoscope.runtime.seal import read_sealed, write_sealed
from infoscope.runtime.typed import from_json


@dataclass(frozen=True)
class Scored:
    """A variant and what a head reaches on it."""

    variant: Variant
    score: Score


def score_variants(
    edited: EditedBackbone,
    task: Task,
    variants: Sequence[Variant],
    config: ProbeConfig,
    folder: Path,
    resize: Resize,
    *,
    batch_size: int | None = None,
    threads: int | None = None,
) -> tuple[list[Scored], dict[str, dict[int, str]]]:
    """Extract each variant's features, train a head on them and score it.

    Args:
        edited: the model and what is needed to edit it.
        task: images and their labels.
        variants: the variants, in the order of the rows.
        config: the options.
        folder: where features and finished scores are kept, of this probe alone.
        resize: how an image becomes square.
        batch_size: images to a forward pass; changes memory and speed, not the result.
        threads: decoding threads.

    Returns:
        The scores in the order of ``variants``, and by split the images that could not be read, with the reason.

    Raises:
        InfoscopeError: a split has no readable image, the task's head refuses the features, or the disk is full.
    """
    recipe = find_recipe(config.recipe)
    kept = _Kept(folder)
    left = [number for number in range(len(variants)) if kept.score(number) is None]
    if not config.keep_features:  # of a variant whose score was kept just before a start was killed
        for number in set(range(len(variants))) - set(left):
            for split in task.splits:
                shutil.rmtree(_features(folder, split, number), ignore_errors=True)
    skipped = kept.skipped()
    if task.name != "classification" and edited.token_set == "cls" and any(each.site == "site" for each in variants):
        raise InfoscopeError(
            f"the SAE {edited.sae.name} is of CLS tokens, and {task.name} at the site reads patches: give --sites rerun"
        )
    groups = list(_groups(left, variants, task, recipe, edited, config))
    if len(groups) > 1:
        tell(
            f"infoscope: the features of {len(left)} variants do not fit into --disk-gib {config.disk_gib:g} together: "
            f"the images are passed over {len(groups)} times"
        )
    for group in groups:
        stores: dict[int, dict[str, FeatureStore]] = {number: {} for number in group}
        for split, images in task.splits.items():
            wanted = []
            for number in group:
                variant = variants[number]
                readout = _readout(task, recipe, edited, variant.site)
                path = _features(folder, split, number)
                store = FeatureStore(path, len(images), readout.arrays(edited.backbone, config.feature_type))
                stores[number][split] = store
                wanted.append(Wanted(variant, readout, store))
            extract(
                edited,
                images,
                wanted,
                resize=resize,
                batch_size=batch_size,
                threads=threads,
                title=f"Extracting {len(group)} of {len(variants)} variants, {split}",
            )
            skipped[split] = stores[group[0]][split].skipped
        kept.note_skipped(skipped)
        for number in group:
            variant = variants[number]
            own = recipe_at(recipe, variant.site, edited.token_set)
            score = task.fit(stores[number], own, edited.backbone, config.seed)
            kept.keep(number, variant, score)
            if not config.keep_features:
                for store in stores[number].values():
                    store.remove()
    scores = [kept.score(number) for number in range(len(variants))]
    return [Scored(variant, score) for variant, score in zip(variants, scores, strict=True) if score], skipped


def _features(folder: Path, split: str, number: int) -> Path:
    """Where a variant's features on a split are while its head is trained."""
    return folder / "features" / split / f"{number:04}"


def recipe_at(recipe: Recipe, site: Site, token_set: TokenSet) -> Recipe:
    """What of a recipe is read at a site."""
    return recipe.at_site(token_set) if site == "site" else recipe


def _readout(task: Task, recipe: Recipe, edited: EditedBackbone, site: Site) -> Readout:
    return task.readout(recipe_at(recipe, site, edited.token_set), edited.backbone)


def _groups(
    left: Sequence[int],
    variants: Sequence[Variant],
    task: Task,
    recipe: Recipe,
    edited: EditedBackbone,
    config: ProbeConfig,
) -> Iterator[list[int]]:
    """Variants whose features fit on the disk together; one at least."""
    group: list[int] = []
    size = 0
    images = sum(len(split) for split in task.splits.values())
    for number in left:
        arrays = _readout(task, recipe, edited, variants[number].site).arrays(edited.backbone, config.feature_type)
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


class _Kept:
    """Finished scores, a file each."""

    def __init__(self, folder: Path):
        self._folder = folder

    def score(self, number: int) -> Score | None:
        path = self._path(number)
        if not path.is_file():
            return None
        value = read_sealed(path, _AGAIN)
        try:
            found: Score = from_json(Score, value, other_entries=True)
        except ValueError as error:
            raise InfoscopeError(f"{path} is no finished score ({error}); {_AGAIN}") from error
        return found

    def keep(self, number: int, variant: Variant, score: Score) -> None:
        write_sealed(self._path(number), {"variant": f"{variant.label} ({variant.site})", **asdict(score)})

    def skipped(self) -> dict[str, dict[int, str]]:
        path = self._folder / _SKIPPED
        value = read_sealed(path, _AGAIN) if path.is_file() else {}
        # As it is written, and as it was before it had a checksum.
        value = value.get("skipped", value) if isinstance(value, dict) else value
        try:
            found: dict[str, dict[str, str]] = from_json(dict[str, dict[str, str]], value)
            return {split: {int(at): why for at, why in images.items()} for split, images in found.items()}
        except ValueError as error:
            raise InfoscopeError(f"{path} names no skipped images ({error}); {_AGAIN}") from error

    def note_skipped(self, skipped: Mapping[str, Mapping[int, str]]) -> None:
        write_sealed(self._folder / _SKIPPED, {"skipped": skipped})

    def _path(self, number: int) -> Path:
        return self._folder / "scores" / f"{number:04}.json"
