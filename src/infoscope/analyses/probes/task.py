"""What a probe asks of a task: its images, what a head reads, and how it is trained and scored."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from infoscope.analyses.probes.recipes import Recipe
from infoscope.analyses.probes.record import Baseline
from infoscope.analyses.probes.store import FeatureStore, Readout
from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.folder import FileSource
from infoscope.images.source import ImageSource, ids_sha256
from infoscope.runtime.choices import Resize

TaskName = Literal["classification", "segmentation", "depth"]


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
    """

    test: Mapping[str, float]
    validation: float
    chosen: Mapping[str, Any]
    candidates: tuple[Mapping[str, Any], ...] = ()
    per_class: Mapping[str, float | None] = field(default_factory=dict)
    per_image: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labels:
    """What a look at all labels found.

    Attributes:
        found: by split, as JSON values, by which a probe on other labels is told apart.
        notes: what a reader must know of them.
    """

    found: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@runtime_checkable
class Task(Protocol):
    """A task on labelled images."""

    @property
    def name(self) -> TaskName:
        """Which task."""

    @property
    def metric(self) -> str:
        """The score that is chosen by and reported first."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a high score is a good one."""

    @property
    def splits(self) -> Mapping[str, ImageSource]:
        """The images: ``train``, ``test``, and ``validation`` where it is given."""

    def check(self) -> Labels:
        """Look at all labels before anything is computed.

        Raises:
            InfoscopeError: labels are wrong, or nothing can be learnt from them.
        """

    def readout(self, recipe: Recipe, backbone: Backbone) -> Readout:
        """What is kept of a variant for a head to read."""

    def fit(self, features: Mapping[str, FeatureStore], recipe: Recipe, backbone: Backbone, seed: int) -> Score:
        """Train a head on a variant's features and score it.

        Args:
            features: by split, with the arrays of `readout`.
            recipe: how.
            backbone: whose features they are; it is not run.
            seed: of what is held out, and of heads that start at random.
        """

    def baselines(self, backbone: Backbone, recipe: Recipe, resize: Resize, seed: int) -> list[Baseline]:
        """Scores without a model: the most frequent answer, and the patches' colours.

        Args:
            backbone: whose patches they are; it is not run.
            recipe: how a head is trained on colours.
            resize: how an image becomes square.
            seed: of what is held out.
        """

    def describe(self) -> dict[str, Any]:
        """The data sets, as JSON values."""


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


def refuse_shared(splits: Mapping[str, ImageSource]) -> None:
    """Refuse to choose or judge a head by the images that it is trained or chosen on.

    Raises:
        InfoscopeError: two splits share images, under whatever name; those of one folder inside another's are seen too.
    """
    files = {split: _whole_paths(images) for split, images in splits.items() if isinstance(images, FileSource)}
    for (first, images), (second, others) in combinations(splits.items(), 2):
        other, last = (second, first) if first == "test" else (first, second)
        what = "name other images to test on" if last == "test" else "name other images, or leave it out"
        if _place(images) == _place(others) and ids_sha256(images) == ids_sha256(others):
            raise InfoscopeError(f"{others.name} is both the {other} and the {last} split: {what}")
        shared = files.get(first, set()) & files.get(second, set())
        if shared:
            raise InfoscopeError(
                f"the {other} and the {last} split share {len(shared):,} images (the first: {min(shared)}): {what}"
            )


def _place(images: ImageSource) -> Path:
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
