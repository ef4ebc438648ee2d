"""Segmentation as a task of a probe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from infoscope.analyses.probes.baselines import majority_class
from infoscope.analyses.probes.classification import describe_candidate
from infoscope.analyses.probes.dense_task import (
    UNJUDGED,
    UNSCORED,
    Judged,
    check_splits,
    colour_pairs,
    dense_readout,
    describe_splits,
    images_by_split,
    stored_pairs,
)
from infoscope.analyses.probes.metrics import Confusion
from infoscope.analyses.probes.recipes import Recipe, SegmentationRecipe
from infoscope.analyses.probes.record import Baseline
from infoscope.analyses.probes.segmentation_head import fit_segmentation
from infoscope.analyses.probes.store import FeatureStore, Readout
from infoscope.analyses.probes.survey import check_trainable, count_classes, untrained_classes
from infoscope.analyses.probes.targets import DenseTargets
from infoscope.analyses.probes.task import Labels, Score, TaskName, check_score
from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.source import ImageSource
from infoscope.runtime.choices import Resize


@dataclass(frozen=True)
class SegmentationTask:
    """Photographs with a class for every pixel; a `Task`. Made by `segmentation_task`.

    Attributes:
        targets: photographs and masks by split.
    """

    targets: Mapping[str, DenseTargets]

    @property
    def name(self) -> TaskName:
        """``segmentation``."""
        return "segmentation"

    @property
    def metric(self) -> str:
        """Mean intersection over union."""
        return "mIoU"

    @property
    def higher_is_better(self) -> bool:
        """It is."""
        return True

    @property
    def splits(self) -> Mapping[str, ImageSource]:
        """The photographs by split."""
        return images_by_split(self.targets)

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return self.targets["train"].classes

    def check(self) -> Labels:
        """Every mask is read once; classes that a split is judged by and no training mask has are noted.

        Raises:
            InfoscopeError: a mask is wrong, or all training pixels are of one class.
        """
        counts = {split: count_classes(targets) for split, targets in self.targets.items()}
        check_trainable(counts["train"])
        missing = sorted({name for other in counts.values() for name in untrained_classes(counts["train"], other)})
        found = {split: {"pixels": each.pixels.tolist(), "ignored": each.ignored} for split, each in counts.items()}
        return Labels(
            found, (f"no training mask has {', '.join(missing)}: their IoU is 0 for every probe",) if missing else ()
        )

    def readout(self, recipe: Recipe, backbone: Backbone) -> Readout:
        """Every patch token of the last block."""
        return dense_readout(False, recipe.segmentation.final_norm, backbone)

    def fit(self, features: Mapping[str, FeatureStore], recipe: Recipe, backbone: Backbone, seed: int) -> Score:
        """A head on a variant's patch tokens, scored at the size of each test mask."""
        return self._fit(stored_pairs(features, self.targets, False), recipe.segmentation, backbone.device, seed)

    def baselines(self, backbone: Backbone, recipe: Recipe, resize: Resize, seed: int) -> list[Baseline]:
        """The most frequent class everywhere, and a head on the patches' colours."""
        pairs = colour_pairs(self.targets, backbone, resize)
        counts = {
            split: count_classes(self.targets[split], pairs[split][1].rows.tolist()) for split in ("train", "test")
        }
        guessed = majority_class(counts["train"], counts["test"])
        score = self._fit(pairs, recipe.segmentation, backbone.device, seed)
        most = self.classes[counts["train"].most_frequent]
        return [
            Baseline("majority", _scores(guessed), None, _per_class(guessed), [f"{most} everywhere"]),
            Baseline("colours", dict(score.test), score.validation, dict(score.per_class), list(score.notes)),
        ]

    def describe(self) -> dict[str, Any]:
        """The splits, with what they are told apart by."""
        return {"task": self.name, "classes": list(self.classes), "splits": describe_splits(self.targets)}

    def _fit(self, pairs: Judged, recipe: SegmentationRecipe, device: torch.device, seed: int) -> Score:
        head = fit_segmentation(
            *pairs["train"],
            recipe,
            classes=len(self.classes),
            validation=pairs.get("validation"),
            seed=seed,
            device=device,
        )
        check_score("validation mIoU", head.chosen.score, UNJUDGED)
        found = Confusion(self.classes)
        for predicted, mask in head.predictions(*pairs["test"]):
            found.add(mask, predicted)
        scores = _scores(found)
        for name, value in scores.items():
            check_score(f"test {name}", value, UNSCORED)
        notes = (f"no test mask has, and nothing predicts, {', '.join(found.absent)}",) if found.absent else ()
        return Score(
            test=scores,
            validation=head.chosen.score,
            chosen=describe_candidate(head.chosen) | {"trained_on": head.trained_on, "held_out": head.held_out},
            candidates=tuple(describe_candidate(each) for each in head.candidates),
            per_class=_per_class(found),
            notes=notes,
        )


def segmentation_task(
    train: DenseTargets, test: DenseTargets, validation: DenseTargets | None = None
) -> SegmentationTask:
    """Photographs with a class for every pixel, for a probe.

    Args:
        train: what heads are trained on; see `infoscope.analyses.probes.segmentation_sets`.
        test: what heads are scored on, and nothing is chosen by.
        validation: what choices are made on; without it a share of the training photographs is held out.

    Raises:
        InfoscopeError: a split has no photographs, or splits have other classes.
    """
    splits = {"train": train, "test": test} | ({} if validation is None else {"validation": validation})
    check_splits(splits)
    for split, targets in splits.items():
        if targets.classes != train.classes:
            raise InfoscopeError(
                f"the {split} split {targets.images.name} has other classes than the training split"
                "; give --classes, the same for all splits"
            )
    return SegmentationTask(splits)


def _scores(found: Confusion) -> dict[str, float]:
    return {
        "mIoU": found.mean_iou,
        "pixel accuracy": found.pixel_accuracy,
        "class accuracy": found.mean_class_accuracy,
    }


def _per_class(found: Confusion) -> dict[str, float | None]:
    values = zip(found.classes, found.iou.tolist(), strict=True)
    return {name: None if math.isnan(value) else value for name, value in values}
