"""What the tasks with a target for every pixel share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int64, Shaped

from infoscope.analyses.probes.baselines import split_colours
from infoscope.analyses.probes.dense_head import DenseHead, DenseRecipe
from infoscope.analyses.probes.reading import DenseFeatures, Target, Targets
from infoscope.analyses.probes.store import FeatureStore, Readout
from infoscope.analyses.probes.targets import DenseTargets, PatchTargets
from infoscope.analyses.probes.task import Baseline, Score, Task, WatchedTask, by_split, check_score, refuse_shared
from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.source import ImageSource, ids_sha256
from infoscope.images.stored import StoredIn
from infoscope.images.watched import InFiles, Remembering, Watched, watch
from infoscope.options import Resize


@dataclass(frozen=True)
class ReadableTargets:
    """The targets of those photographs that could be read, in the order of their features.

    Attributes:
        targets: of all photographs.
        rows: the positions of those that could be read.
        made: what heads have made of the targets of their patches, for the heads that follow.
    """

    targets: DenseTargets
    rows: Int64[np.ndarray, " image"]
    made: dict[Hashable, PatchTargets] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def target(self, index: int) -> Shaped[np.ndarray, "row column"]:
        """Of the photograph behind entry ``index`` of the features."""
        return self.targets.target(int(self.rows[index]))


# Features and targets by split; it does not matter to a head where targets are from.
Pairs = Mapping[str, tuple[DenseFeatures, Targets]]

# What a score that is not finite says: predictions that are not are refused before.
UNJUDGED = "no held-out pixel counts: give --validation and its targets, or more training photographs"
UNSCORED = "no test pixel counts: give other --test photographs and targets"


@dataclass(frozen=True)
class DenseTask(Task):
    """Photographs with a target for every pixel.

    Attributes:
        targets: photographs and targets by split.
    """

    targets: Mapping[str, DenseTargets]

    @abstractmethod
    def train(self, pairs: tuple[DenseFeatures, Targets], recipe: Any, **options: Any) -> DenseHead:
        """Train a head; ``options`` are the ``validation`` pair, the ``seed`` and the ``device``."""

    @abstractmethod
    def judge(self, predictions: Iterable[tuple[Target, Target]]) -> dict[str, Any]:
        """The fields of a `Score` that say how good predictions are.

        Args:
            predictions: of each test image, and its target.
        """

    @abstractmethod
    def guess(self, train: Sequence[int], test: Sequence[int]) -> Baseline:
        """The score of the best constant answer.

        Args:
            train: the photographs of the training split that it is taken from.
            test: those of the test split that it is judged by.
        """

    @property
    def splits(self) -> Mapping[str, ImageSource]:
        """The photographs by split."""
        return {split: targets.images for split, targets in self.targets.items()}

    def readout(self, recipe: DenseRecipe, backbone: Backbone) -> Readout:
        """Every patch token of the last block, with the CLS token where a head has it beside each.

        Raises:
            InfoscopeError: a head wants a CLS token, and the model has none.
        """
        if recipe.with_cls and not backbone.layout.special_tokens:
            raise InfoscopeError(f"this recipe reads a CLS token, and {backbone.name} has none: choose --recipe simple")
        vectors = (("cls", -1),) if recipe.with_cls else ()
        return Readout(vectors, patches=True, final_norm=recipe.final_norm)

    def fit(self, features: Mapping[str, FeatureStore], recipe: DenseRecipe, backbone: Backbone, seed: int) -> Score:
        """A head on a variant's patch tokens, scored at the size of each test target."""
        pairs = {
            split: (
                DenseFeatures(store.read("patches"), store.read("vectors") if recipe.with_cls else None),
                self._readable(split, store.rows),
            )
            for split, store in features.items()
        }
        return self.score(pairs, recipe, backbone.device, seed)

    def baselines(self, backbone: Backbone, recipe: DenseRecipe, resize: Resize, seed: int) -> list[Baseline]:
        """The best constant answer, and a head on the patches' colours."""
        pairs, rows = {}, {}
        for split, targets in self.targets.items():
            colours, readable = split_colours(targets.images, backbone, resize)
            pairs[split] = (DenseFeatures(colours), self._readable(split, readable))
            rows[split] = readable.tolist()
        guessed = self.guess(rows["train"], rows["test"])
        # Colours have no CLS token.
        score = self.score(pairs, recipe.without_cls(), backbone.device, seed)
        return [guessed, score.as_baseline("colours")]

    def _readable(self, split: str, rows: Int64[np.ndarray, " image"]) -> ReadableTargets:
        """The targets of the photographs that could be read, the same object for all variants that read the same."""
        key = split, rows.tobytes()
        if key not in self._kept:
            self._kept[key] = ReadableTargets(self.targets[split], rows)
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[tuple[str, bytes], ReadableTargets]:
        return {}

    def score(self, pairs: Pairs, recipe: DenseRecipe, device: torch.device, seed: int) -> Score:
        """Train a head and score it.

        Raises:
            InfoscopeError: there is nothing to train on, to choose by or to score on.
        """
        head = self.train(pairs["train"], recipe, validation=pairs.get("validation"), seed=seed, device=device)
        check_score(f"validation {self.metric}", head.chosen.score, UNJUDGED)
        judged = self.judge(head.predictions(*pairs["test"]))
        for name, value in judged["test"].items():
            check_score(f"test {name}", value, UNSCORED)
        choice = head.choice()
        return Score(**choice | judged | {"notes": choice["notes"] + judged["notes"]})

    def describe(self) -> dict[str, Any]:
        """The splits, with what they are told apart by."""
        splits = {
            split: {"source": targets.images.name, "images": len(targets), "ids_sha256": ids_sha256(targets.images)}
            for split, targets in self.targets.items()
        }
        return {"task": self.name, "splits": splits}

    def watch(self) -> WatchedTask:
        """The task, its photographs and targets watched."""
        images = {split: watch(targets.images) for split, targets in self.targets.items()}
        watched = {split: self.watch_targets(targets, images[split]) for split, targets in self.targets.items()}
        return WatchedTask(
            replace(self, targets={split: targets for split, (targets, _) in watched.items()}),
            images,
            {split: seen for split, (_, seen) in watched.items()},
        )

    def watch_targets(self, targets: DenseTargets, images: Watched) -> tuple[DenseTargets, Watched]:
        """The targets of a split on watched photographs, and what watches them."""
        seen = Watched(StoredTargets(targets, targets.target, targets.images))
        return WatchedTargets(images, targets.classes, seen), seen


def check_splits(train: DenseTargets, test: DenseTargets, validation: DenseTargets | None) -> dict[str, Any]:
    """The splits of a dense task by name.

    Raises:
        InfoscopeError: a split has no photographs, or two share some.
    """
    # A probe that is judged by what it was trained or chosen on would flatter every variant alike.
    splits = by_split(train, test, validation)
    for split, targets in splits.items():
        if not len(targets):
            raise InfoscopeError(
                f"the {split} split {targets.images.name} has no photographs; give it some, or another"
            )
    refuse_shared({split: targets.images for split, targets in splits.items()})
    return splits


@dataclass(frozen=True, eq=False)
class WatchedTargets:
    """Targets that are watched; a `DenseTargets`.

    Attributes:
        images: the photographs.
        classes: see `DenseTargets`.
        watched: the targets.
    """

    images: Watched
    classes: tuple[str, ...]
    watched: Watched

    def __len__(self) -> int:
        return len(self.watched)

    def target(self, index: int) -> Shaped[np.ndarray, "row column"]:
        """See `DenseTargets`."""
        return cast("np.ndarray", self.watched.read(index))


class StoredTargets:
    """Targets as `Watched` takes images.

    Args:
        targets: the targets.
        read: gives one of them.
        images: their photographs, by which they are called.
    """

    def __init__(self, targets: object, read: Callable[[int], np.ndarray], images: ImageSource):
        self._read, self._count = read, len(images)
        self.name = f"the targets of {images.name}"
        self.ids = images.ids
        self.fingerprint = ""
        if isinstance(targets, InFiles):
            self.stored_in: Callable[[], StoredIn] = targets.stored_in
        if isinstance(targets, Remembering):
            self.forget: Callable[[], None] = targets.forget

    def stamp(self) -> str:
        """Nothing: what is in no files is in memory."""
        return ""

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        return self._read(index)
