"""What a probe asks of a task: its images, what a head reads, and how it is trained and scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.resize import Resize
from infoscope.images.source import ImageSource, ids_sha256
from infoscope.probes.readout import Readout
from infoscope.probes.recipes import Recipe
from infoscope.probes.record import Baseline
from infoscope.probes.store import FeatureStore

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

    def check(self, show_progress: bool) -> Labels:
        """Look at all labels before anything is computed.

        Raises:
            InfoscopeError: labels are wrong, or nothing can be learnt from them.
        """

    def readout(self, recipe: Recipe, backbone: Backbone) -> Readout:
        """What is kept of a variant for a head to read."""

    def fit(
        self, features: Mapping[str, FeatureStore], recipe: Recipe, backbone: Backbone, seed: int, show_progress: bool
    ) -> Score:
        """Train a head on a variant's features and score it.

        Args:
            features: by split, with the arrays of `readout`.
            recipe: how.
            backbone: whose features they are; it is not run.
            seed: of what is held out, and of heads that start at random.
            show_progress: report progress on stderr.
        """

    def baselines(
        self, backbone: Backbone, recipe: Recipe, resize: Resize, seed: int, show_progress: bool
    ) -> list[Baseline]:
        """Scores without a model: the most frequent answer, and the patches' colours.

        Args:
            backbone: whose patches they are; it is not run.
            recipe: how a head is trained on colours.
            resize: how an image becomes square.
            seed: of what is held out.
            show_progress: report progress on stderr.
        """

    def describe(self) -> dict[str, Any]:
        """The data sets, as JSON values."""


def refuse_same(splits: Mapping[str, ImageSource]) -> None:
    """Refuse to judge a head by the images that it is trained or chosen on.

    Raises:
        InfoscopeError: the test split is the same images as another.
    """
    for split, images in splits.items():
        other = splits["test"]
        if split != "test" and images.name == other.name and ids_sha256(images) == ids_sha256(other):
            raise InfoscopeError(f"{other.name} is both the {split} and the test split: name other images to test on")
