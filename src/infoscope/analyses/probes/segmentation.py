"""Segmentation as a task of a probe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int64

from infoscope.analyses.probes.dense import DenseTask, check_splits
from infoscope.analyses.probes.metrics import Confusion
from infoscope.analyses.probes.overlaps import pack_overlaps, sequence_note
from infoscope.analyses.probes.reading import DenseFeatures, Target, Targets
from infoscope.analyses.probes.segmentation_head import (
    RECIPES,
    SegmentationHead,
    SegmentationRecipe,
    fit_segmentation,
)
from infoscope.analyses.probes.segmentation_sets import SegmentationSet, open_masks, open_segmentation, splits_of
from infoscope.analyses.probes.targets import DenseTargets, ignore_value, read_targets
from infoscope.analyses.probes.task import Baseline, Labels
from infoscope.analyses.probes.tasks import TaskFlags
from infoscope.errors import InfoscopeError
from infoscope.options import Resize


@dataclass(frozen=True)
class SegmentationTask(DenseTask):
    """Photographs with a class for every pixel. Made by `segmentation_task`."""

    name = "segmentation"
    metric = "mIoU"
    units: ClassVar = dict.fromkeys(("mIoU", "pixel accuracy", "class accuracy"), "%")
    higher_is_better = True
    recipes = RECIPES

    @classmethod
    def from_flags(cls, flags: TaskFlags, resize: Resize) -> SegmentationTask:
        """See `Task`."""
        opened: dict[str, SegmentationSet] = {}
        if flags.data is not None:
            for split, their_name in splits_of(flags.data).items():
                opened[split] = open_segmentation(flags.data, their_name, resize)
        else:
            for split, (images, targets) in flags.pairs().items():
                opened[split] = open_masks(
                    images,
                    targets,
                    # Where nothing names the classes, they are the numbers in the training split's masks.
                    classes=flags.classes or (opened["train"].classes if opened else None),
                    ignore_index=flags.ignore_index,
                    reduce_zero_label=flags.reduce_zero_label,
                    image_ending=flags.image_ending,
                    mask_ending=flags.target_ending,
                    resize=resize,
                )
        return segmentation_task(**opened)

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
        notes = [f"no training mask has {', '.join(missing)}: their IoU is 0 for every probe"] if missing else []
        frames = sequence_note(self.targets["test"].images.ids)
        notes += [] if frames is None else [frames]
        summary = {split: {"pixels": each.pixels.tolist(), "ignored": each.ignored} for split, each in counts.items()}
        return Labels(summary, tuple(notes))

    def train(
        self, pairs: tuple[DenseFeatures, Targets], recipe: SegmentationRecipe, **options: Any
    ) -> SegmentationHead:
        """See `DenseTask`."""
        return fit_segmentation(*pairs, recipe, classes=len(self.classes), **options)

    def judge(self, predictions: Iterable[tuple[Target, Target]]) -> dict[str, Any]:
        """See `DenseTask`."""
        confusion = Confusion(self.classes)
        overlaps = []
        for predicted, mask in predictions:
            of_image = Confusion(self.classes)
            of_image.add(mask, predicted)
            overlaps.append(of_image.overlaps)
            confusion.counts += of_image.counts
        absent = confusion.absent
        notes = (f"no test mask has, and nothing predicts, {', '.join(absent)}",) if absent else ()
        return {
            "test": _scores(confusion),
            "per_class": _per_class(confusion),
            "overlaps": pack_overlaps(np.stack(overlaps)) if overlaps else "",
            "notes": notes,
        }

    def guess(self, train: Sequence[int], test: Sequence[int]) -> Baseline:
        """The most frequent class everywhere."""
        known = count_classes(self.targets["train"], train)
        guessed = majority_class(known, count_classes(self.targets["test"], test))
        note = f"{self.classes[known.most_frequent]} everywhere"
        return Baseline("majority", _scores(guessed), None, _per_class(guessed), [note])

    def describe(self) -> dict[str, Any]:
        """The splits and classes, with what they are told apart by."""
        return super().describe() | {"classes": list(self.classes)}


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
    splits = check_splits(train, test, validation)
    for split, targets in splits.items():
        if targets.classes != train.classes:
            raise InfoscopeError(
                f"the {split} split {targets.images.name} has other classes than the training split"
                "; give --classes, the same for all splits"
            )
    return SegmentationTask(splits)


def _scores(confusion: Confusion) -> dict[str, float]:
    return {
        "mIoU": confusion.mean_iou,
        "pixel accuracy": confusion.pixel_accuracy,
        "class accuracy": confusion.mean_class_accuracy,
    }


def _per_class(confusion: Confusion) -> dict[str, float | None]:
    values = zip(confusion.classes, confusion.iou.tolist(), strict=True)
    return {name: None if math.isnan(value) else value for name, value in values}


@dataclass(frozen=True)
class ClassCounts:
    """How many pixels of a split are of each class.

    Attributes:
        classes: the classes' names.
        pixels: of each class.
        ignored: pixels that do not count.
    """

    classes: tuple[str, ...]
    pixels: Int64[np.ndarray, " class"]
    ignored: int

    @property
    def most_frequent(self) -> int:
        """The class of most pixels; of several the first."""
        return int(self.pixels.argmax())


def count_classes(targets: DenseTargets, indices: Iterable[int] | None = None) -> ClassCounts:
    """Read every mask of a split once.

    Args:
        targets: the split.
        indices: which photographs; all when not given.

    Raises:
        InfoscopeError: a mask is wrong (`DenseTargets.target`), or no pixel counts.
    """
    count = len(targets.classes)
    ignore = ignore_value(count)
    pixels, ignored = np.zeros(count, np.int64), 0
    for target in read_targets(targets, indices):
        counts = np.bincount(target.ravel(), minlength=count)
        pixels += counts[:count]
        ignored += int(counts[ignore:].sum())
    if not pixels.any():
        raise InfoscopeError(f"no pixel of the masks of {targets.images.name} counts: check the number that is ignored")
    return ClassCounts(targets.classes, pixels, ignored)


def majority_class(train: ClassCounts, test: ClassCounts) -> Confusion:
    """Segmentation by the training split's most frequent class everywhere; of the test split counts are enough.

    Args:
        train: what `count_classes` found in the training split.
        test: what it found in the split that is judged.

    Example:
        >>> train, test = (ClassCounts(("sky", "road"), np.array(pixels), 0) for pixels in ([9, 5], [2, 6]))
        >>> majority_class(train, test).iou
        array([0.25, 0.  ])
    """
    confusion = Confusion(test.classes)
    confusion.counts[:, train.most_frequent] = test.pixels
    return confusion


def check_trainable(train: ClassCounts) -> None:
    """Refuse a training split of one class.

    Raises:
        InfoscopeError: all its pixels that count are of one class.
    """
    if np.count_nonzero(train.pixels) < 2:
        raise InfoscopeError(
            f"all pixels of the training masks are of class {train.classes[train.most_frequent]}: a probe needs two "
            "classes to tell apart"
        )


def untrained_classes(train: ClassCounts, other: ClassCounts) -> tuple[str, ...]:
    """Classes that another split is judged by and the training split has no pixel of; their IoU is 0 for any probe.

    Raises:
        InfoscopeError: the splits have other classes.

    Example:
        >>> train, test = (ClassCounts(("sky", "cat"), np.array(pixels), 0) for pixels in ([9, 0], [5, 4]))
        >>> untrained_classes(train, test)
        ('cat',)
    """
    if other.classes != train.classes:
        raise InfoscopeError("splits have other classes: give all of them the classes of the training split")
    return tuple(train.classes[number] for number in np.flatnonzero((other.pixels > 0) & (train.pixels == 0)))
