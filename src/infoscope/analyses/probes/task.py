"""What a probe asks of a task: its images, what a head reads, and how it is trained and scored.

A task is one class: `classification.ClassificationTask`, or one made on `dense.DenseTask` for a target at every pixel.
`tasks.TASKS` lists them.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from infoscope.analyses.probes.store import FeatureStore, Readout
from infoscope.analyses.probes.tasks import TaskFlags, TaskName
from infoscope.analyses.removal.variants import Variant
from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.folder import FileSource
from infoscope.images.source import ImageSource, ids_sha256
from infoscope.images.watched import Watched
from infoscope.measurement.identity import with_kept_stamp
from infoscope.options import ReadFrom, Resize, TokenSet
from infoscope.runtime.run import PARTIALS, claim_directory

# The folder of partials that holds what images and targets are like.
CONTENTS = "contents"


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
class Score:
    """What a head reaches.

    Attributes:
        test: scores on the test split by name, of which the task's ``metric`` is the first.
        validation: the metric where the choice was made: on images held out of the training split or on the validation
            split, never on the test split.
        chosen: what was chosen there, such as a strength or a learning rate and the inputs, by name.
        candidates: each choice and its validation score.
        per_class: the score of each class, where the task has one; None for a class that no image has.
        per_image: the metric of each test image, where it is their mean; empty where it is not.
        notes: what a reader must know, such as classes that are absent.
        overlaps: each test image's intersections and unions by class, packed, where the metric is mIoU.
    """

    test: Mapping[str, float]
    validation: float
    chosen: Mapping[str, Any]
    candidates: tuple[Mapping[str, Any], ...] = ()
    per_class: Mapping[str, float | None] = field(default_factory=dict)
    per_image: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    overlaps: str = ""

    def as_baseline(self, name: str) -> Baseline:
        """The score of a head that had no model's features."""
        return Baseline(name, dict(self.test), self.validation, dict(self.per_class), list(self.notes))


@dataclass(frozen=True)
class Scored:
    """A variant and what a head reaches on it."""

    variant: Variant
    score: Score


@dataclass(frozen=True)
class Labels:
    """What a look at all labels found.

    Attributes:
        summary: by split, as JSON values, by which a probe on other labels is told apart.
        notes: what a reader must know of them.
    """

    summary: Mapping[str, Any]
    notes: tuple[str, ...] = ()


class Task(ABC):
    """A task on labelled images.

    Attributes:
        name: as ``--task`` takes it.
        metric: the score that is chosen by and reported first.
        units: each score's unit: ``%`` for a share, ``m``, or none.
        higher_is_better: whether a high score of the metric is a good one.
        recipes: by name, what a head reads and how it is trained; see `infoscope.analyses.probes.recipes`.
    """

    name: ClassVar[TaskName]
    metric: ClassVar[str]
    units: ClassVar[Mapping[str, str]]
    higher_is_better: ClassVar[bool]
    recipes: ClassVar[Mapping[str, Any]]

    @classmethod
    @abstractmethod
    def from_flags(cls, flags: TaskFlags, resize: Resize) -> Task:
        """The task that the flags of a command name.

        Args:
            flags: the flags.
            resize: how views are made square, and so their targets.

        Raises:
            InfoscopeError: flags are missing or do not go together, or the data cannot be read.
        """

    @property
    @abstractmethod
    def splits(self) -> Mapping[str, ImageSource]:
        """The images: ``train``, ``test``, and ``validation`` where it is given."""

    @abstractmethod
    def check(self) -> Labels:
        """Look at all labels before anything is computed.

        Raises:
            InfoscopeError: labels are wrong, or nothing can be learnt from them.
        """

    @abstractmethod
    def readout(self, recipe: Any, backbone: Backbone) -> Readout:
        """What is kept of a variant for a head to read."""

    @abstractmethod
    def fit(self, features: Mapping[str, FeatureStore], recipe: Any, backbone: Backbone, seed: int) -> Score:
        """Train a head on a variant's features and score it.

        Args:
            features: by split, with the arrays of `readout`.
            recipe: how; one of `recipes`, or what `recipe_at` makes of it.
            backbone: whose features they are; it is not run.
            seed: of what is held out, and of heads that start at random.
        """

    @abstractmethod
    def baselines(self, backbone: Backbone, recipe: Any, resize: Resize, seed: int) -> list[Baseline]:
        """Scores without a model: the most frequent answer, and the patches' colours.

        Args:
            backbone: whose patches they are; it is not run.
            recipe: how a head is trained on colours.
            resize: how an image becomes square.
            seed: of what is held out.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The data sets, as JSON values."""

    @abstractmethod
    def watch(self) -> WatchedTask:
        """The task, so that a photograph or target which changes is noticed."""

    def recipe_at(self, name: str, site: ReadFrom, token_set: TokenSet) -> Any:
        """What of a recipe is read at a site: at the SAE's own block no more than the tokens that were edited."""
        recipe = self.recipes[name]
        return recipe.at_site(token_set) if site == "site" else recipe


@dataclass(frozen=True)
class WatchedTask:
    """A task that refuses a photograph or target which is another than when it was read first.

    Attributes:
        task: the task.
        images: its photographs by split.
        targets: its masks or depth maps by split; none in classification.
    """

    task: Task
    images: Mapping[str, Watched]
    targets: Mapping[str, Watched]

    @property
    def states(self) -> dict[str, str]:
        """By split, what tells that photographs may have changed."""
        return {split: images.states for split, images in self.images.items()}

    def claim(self, out: Path, plan: dict[str, Any]) -> None:
        """Make ``out`` the directory of a probe, and keep there what photographs and targets are like.

        Args:
            out: the folder.
            plan: all that the result depends on, `states` under ``stamps``.

        Raises:
            InfoscopeError: it is another probe's, or a photograph or target has changed since that was begun.
        """
        contents = out / PARTIALS / CONTENTS
        files = {
            watched: contents / f"{split}-{kind}.u8"
            for kind, by_split in (("images", self.images), ("targets", self.targets))
            for split, watched in by_split.items()
        }

        def same(before: dict[str, Any]) -> bool:
            """Whether all that was read is known, and as it was."""
            if not contents.exists():  # begun before contents were written, when a plan had the files' sizes and times
                return bool(before.get("stamps") == {split: images.stamp() for split, images in self.images.items()})
            for images in self.images.values():
                if not files[images].is_file():
                    return False
                images.keep(files[images])
                images.verify(np.flatnonzero(images.contents))
            return True

        def merge(before: dict[str, Any]) -> dict[str, Any]:
            return plan | {"stamps": before.get("stamps")}

        claim_directory(out, with_kept_stamp(out, plan, merge, same))
        for watched, file in files.items():
            watched.keep(file)

    def check(self) -> None:
        """Make sure that all that was read is still what it was.

        Raises:
            ChangedImageError: something is not.
        """
        for watched in (*self.images.values(), *self.targets.values()):
            watched.check()


DIVERGED = "the head has diverged: probe with --recipe simple, which has no learning rate"
"""What a score that is not finite says where there is something to score on."""


def check_score(name: str, value: float, reason: str) -> None:
    """Refuse a score that is not finite: nothing can be compared with it.

    Args:
        name: which score.
        value: the score.
        reason: why it may be so, and what to do.

    Raises:
        InfoscopeError: it is NaN or infinite.

    Example:
        >>> check_score("mIoU", float("nan"), "no test pixel counts: give other masks")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: the mIoU is nan: no test pixel counts: give other masks
    """
    if not math.isfinite(value):
        raise InfoscopeError(f"the {name} is {value:g}: {reason}")


def by_split(train: Any, test: Any, validation: Any) -> dict[str, Any]:
    """The splits that there are, by name."""
    return {"train": train, "test": test} | ({} if validation is None else {"validation": validation})


def refuse_shared(splits: Mapping[str, ImageSource]) -> None:
    """Refuse to choose or judge a head by the images that it is trained or chosen on.

    Raises:
        InfoscopeError: two splits share images, under whatever name; those of one folder inside another's are seen too.
    """
    files = {split: _whole_paths(images) for split, images in splits.items() if isinstance(images, FileSource)}
    for (first, images), (second, others) in combinations(splits.items(), 2):
        other, last = (second, first) if first == "test" else (first, second)
        what = "name other images to test on" if last == "test" else "name other images, or leave it out"
        if _resolved(images) == _resolved(others) and ids_sha256(images) == ids_sha256(others):
            raise InfoscopeError(f"{others.name} is both the {other} and the {last} split: {what}")
        shared = files.get(first, set()) & files.get(second, set())
        if shared:
            raise InfoscopeError(
                f"the {other} and the {last} split share {len(shared):,} images (the first: {min(shared)}): {what}"
            )


def _resolved(images: ImageSource) -> Path:
    """Where images are, however that was written."""
    return Path(images.name).expanduser().resolve()


def _whole_paths(images: FileSource) -> set[str]:
    """Each file's path, through links; a folder is asked once."""
    folders: dict[str, str] = {}
    paths = set()
    for file in images.files:
        folder, name = os.path.split(os.path.realpath(file) if Path(file).is_symlink() else file)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        paths.add(f"{folders[folder]}/{name}")
    return paths
