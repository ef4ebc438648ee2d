"""Classification as a task of a probe."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int, Int64

from infoscope.analyses.probes.baselines import image_colours
from infoscope.analyses.probes.classification_head import (
    RECIPES,
    ClassificationInput,
    ClassificationRecipe,
    fit_classification,
)
from infoscope.analyses.probes.labelled_images import (
    LabelledImages,
    are_validation_photographs,
    is_kind,
    names_devkit,
    open_labelled,
    share_classes,
)
from infoscope.analyses.probes.metrics import top_k, top_k_hits
from infoscope.analyses.probes.store import FeatureStore, Readout
from infoscope.analyses.probes.task import (
    DIVERGED,
    Baseline,
    Labels,
    Score,
    Task,
    WatchedTask,
    by_split,
    check_score,
    refuse_shared,
)
from infoscope.analyses.probes.tasks import TaskFlags
from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.source import Images, ImageSource, ids_sha256, open_images
from infoscope.images.watched import watch
from infoscope.options import Resize

# Where the labels of a split are; see `open_labelled`. Then those of all splits, or by split.
OneSplitsLabels = str | Path | Sequence[str] | None
LabelsGiven = OneSplitsLabels | Mapping[str, OneSplitsLabels]


@dataclass(frozen=True)
class ClassificationTask(Task):
    """Images of classes. Made by `classification_task`.

    Attributes:
        labelled: the images and labels by split, with one list of classes.
    """

    labelled: Mapping[str, LabelledImages]

    name = "classification"
    metric = "top-1"
    units: ClassVar = {"top-1": "%", "top-5": "%"}
    higher_is_better = True
    recipes = RECIPES

    @classmethod
    def from_flags(cls, flags: TaskFlags, resize: Resize) -> ClassificationTask:
        """See `Task`."""
        given: dict[str, str] = {}
        if flags.data is not None:
            folders = {split: Path(flags.data) / split for split in ("train", "val", "test")}
            there = [split for split in ("val", "test") if folders[split].expanduser().is_dir()]
            given = {"train": str(folders["train"]), "test": str(folders["test" if "test" in there else "val"])}
            given |= {"validation": str(folders["val"])} if len(there) == 2 else {}
        else:
            splits = by_split(flags.train, flags.test, flags.validation)
            given = {split: str(images) for split, images in splits.items()}
        return classification_task(**given, labels=_labels_of(flags, given))

    @property
    def splits(self) -> Mapping[str, ImageSource]:
        """The images by split."""
        return {split: labelled.images for split, labelled in self.labelled.items()}

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return self.labelled["train"].classes

    def check(self) -> Labels:
        """Labels were checked when they were opened."""
        hashes = {
            split: hashlib.sha256(labelled.labels.tobytes()).hexdigest() for split, labelled in self.labelled.items()
        }
        return Labels(hashes)

    def readout(self, recipe: ClassificationRecipe, backbone: Backbone) -> Readout:
        """The vectors that the recipe's inputs are made of."""
        own = _without_cls(recipe, backbone)
        return Readout(vectors=own.parts, final_norm=own.final_norm)

    def fit(
        self, features: Mapping[str, FeatureStore], recipe: ClassificationRecipe, backbone: Backbone, seed: int
    ) -> Score:
        """A head on a variant's vectors, scored on the test split."""
        arrays = {split: (store.read("vectors"), self._labels(split, store.rows)) for split, store in features.items()}
        return self._fit(arrays, _without_cls(recipe, backbone), backbone.device, seed)

    def baselines(self, backbone: Backbone, recipe: ClassificationRecipe, resize: Resize, seed: int) -> list[Baseline]:
        """The most frequent class, and a head on the patches' mean colours and spreads."""
        arrays = {}
        for split, images in self.splits.items():
            colours, rows = image_colours(images, backbone, resize)
            arrays[split] = (colours, self._labels(split, rows))
        guessed, top_1, top_5 = majority_label(arrays["train"][1], arrays["test"][1], len(self.classes))
        majority = {"top-1": top_1} | ({"top-5": top_5} if len(self.classes) > 5 else {})
        # Colours have no CLS token and no blocks: their mean over patches is all there is to read.
        own = replace(recipe, inputs=(ClassificationInput(cls=False, mean=True),))
        score = self._fit(arrays, own, backbone.device, seed)
        return [
            Baseline("majority", majority, None, {}, [f"always {self.classes[guessed]}"]),
            score.as_baseline("colours"),
        ]

    def describe(self) -> dict[str, Any]:
        """The splits, with what they are told apart by."""
        return {
            "task": self.name,
            "classes": list(self.classes),
            "splits": {
                split: {
                    "source": labelled.images.name,
                    "images": len(labelled),
                    "ids_sha256": ids_sha256(labelled.images),
                    "per_class": np.bincount(labelled.labels, minlength=len(self.classes)).tolist(),
                }
                for split, labelled in self.labelled.items()
            },
        }

    def watch(self) -> WatchedTask:
        """The task, its images watched."""
        images = {split: watch(labelled.images) for split, labelled in self.labelled.items()}
        watched = {split: replace(labelled, images=images[split]) for split, labelled in self.labelled.items()}
        return WatchedTask(replace(self, labelled=watched), images, {})

    def _labels(self, split: str, rows: Int64[np.ndarray, " image"]) -> Int64[np.ndarray, " image"]:
        of_rows: np.ndarray = self.labelled[split].labels[rows]
        return of_rows

    def _fit(
        self,
        arrays: Mapping[str, tuple[np.ndarray, Int64[np.ndarray, " image"]]],
        recipe: ClassificationRecipe,
        device: torch.device,
        seed: int,
    ) -> Score:
        head = fit_classification(
            *arrays["train"],
            recipe,
            classes=len(self.classes),
            validation=arrays.get("validation"),
            seed=seed,
            device=device,
        )
        check_score("validation top-1", head.chosen.score, DIVERGED)
        features, labels = arrays["test"]
        logits = head.logits(features)
        hits = top_k_hits(logits, labels, 1)
        test = {"top-1": float(hits.mean())}
        check_score("test top-1", test["top-1"], DIVERGED)
        if len(self.classes) > 5:
            test["top-5"] = float(top_k_hits(logits, labels, 5).mean())
        of_class = [hits[labels == number] for number in range(len(self.classes))]
        per_class = {
            name: float(hit.mean()) if len(hit) else None for name, hit in zip(self.classes, of_class, strict=True)
        }
        return Score(
            **head.choice(),
            test=test,
            per_class=per_class,
            per_image=tuple(hits.astype(float).tolist()),
        )


def _without_cls(recipe: ClassificationRecipe, backbone: Backbone) -> ClassificationRecipe:
    """The recipe for a model that may have no CLS token."""
    if backbone.layout.special_tokens:
        return recipe
    inputs = tuple(each for each in recipe.inputs if not each.cls) or (ClassificationInput(cls=False, mean=True),)
    return replace(recipe, inputs=inputs)


def classification_task(
    train: Images | LabelledImages,
    test: Images | LabelledImages,
    validation: Images | LabelledImages | None = None,
    *,
    labels: LabelsGiven = None,
) -> ClassificationTask:
    """Images of classes, for a probe.

    Args:
        train: the images that heads are trained on: a folder with a folder a class, ImageNet's folders, a data set with
            labels, or whatever else `infoscope.images.source.open_images` opens.
        test: the images that heads are scored on, and nothing is chosen by.
        validation: the images that choices are made on; without them a share of the training images is held out.
        labels: where labels are, as `open_labelled` takes it: for all splits, or by split (``train``, ``validation``,
            ``test``). ImageNet's devkit, given for all, is of those splits that hold its validation photographs in one
            folder; the others' labels are their folders.

    Raises:
        InfoscopeError: images or labels cannot be read, or a split has a class that the training split lacks.

    Example:
        >>> pictures = np.zeros((6, 8, 8, 3), np.uint8)
        >>> train = open_labelled(pictures[:4], ["cat", "cat", "dog", "dog"])
        >>> classification_task(train, open_labelled(pictures[4:], ["dog", "cat"])).classes
        ('cat', 'dog')
    """
    given = by_split(train, test, validation)
    opened = {split: _open(images, labels, split) for split, images in given.items()}
    for split, labelled in opened.items():
        if not len(labelled):
            raise InfoscopeError(f"the {split} split {labelled.images.name} has no images; give it some, or another")
    refuse_shared({split: labelled.images for split, labelled in opened.items()})
    # The training split decides the class numbers: a head has no output for a class that it never saw.
    others = [split for split in opened if split != "train"]
    shared = share_classes(opened["train"], *(opened[split] for split in others))
    return ClassificationTask(dict(zip(["train", *others], shared, strict=True)))


def _open(images: Images | LabelledImages, labels: LabelsGiven, split: str) -> LabelledImages:
    if isinstance(images, LabelledImages):
        return images
    if isinstance(labels, Mapping):
        return open_labelled(images, labels.get(split))
    source = open_images(images)
    named = isinstance(labels, Path) or (isinstance(labels, str) and not is_kind(labels))
    # The devkit lists validation photographs alone, and one --labels is given for all splits.
    if named and names_devkit(str(labels)) and not are_validation_photographs(source.ids):
        return open_labelled(source, "folder")
    return open_labelled(source, labels)


def _labels_of(flags: TaskFlags, splits: Collection[str]) -> LabelsGiven:
    """Where the flags say that labels are."""
    own = by_split(flags.train_labels, flags.test_labels, flags.validation_labels)
    if not any(own.values()):
        return flags.labels
    if flags.labels is not None:
        raise InfoscopeError(
            "--labels is of all splits: leave it out, or leave out --train-labels, --validation-labels and "
            "--test-labels"
        )
    for split, labels in own.items():
        if labels is not None and split not in splits:
            raise InfoscopeError(f"--{split}-labels: there are no {split} images; there are {' and '.join(splits)}")
    return own


def majority_label(
    train: Int[np.ndarray, " train_image"], test: Int[np.ndarray, " image"], classes: int
) -> tuple[int, float, float]:
    """Always guessing the training split's most frequent class.

    Args:
        train: class numbers of the training split.
        test: those of the split that is judged.
        classes: how many there are.

    Returns:
        The class (of several the first), its top-1 and the top-5 of the five most frequent on ``test``.

    Example:
        >>> majority_label(np.array([2, 2, 0]), np.array([2, 0, 1, 1]), 3)
        (2, 0.25, 1.0)
    """
    frequency = np.bincount(train, minlength=classes)
    scores = np.broadcast_to(frequency, (len(test), classes))
    return int(frequency.argmax()), top_k(scores, test, 1), top_k(scores, test, 5)
