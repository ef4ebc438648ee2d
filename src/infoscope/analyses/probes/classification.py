"""Classification as a task of a probe."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from infoscope.analyses.probes.baselines import image_colours, majority_label
from infoscope.analyses.probes.classification_head import fit_classification
from infoscope.analyses.probes.convex import Candidate
from infoscope.analyses.probes.labelled_images import (
    LabelledImages,
    are_validation_photographs,
    is_kind,
    names_devkit,
    open_labelled,
    share_classes,
)
from infoscope.analyses.probes.metrics import top_k_hits
from infoscope.analyses.probes.recipes import ClassificationInput, ClassificationRecipe, Recipe
from infoscope.analyses.probes.record import Baseline
from infoscope.analyses.probes.store import FeatureStore, Readout
from infoscope.analyses.probes.task import DIVERGED, Score, TaskName, check_score, refuse_shared
from infoscope.analyses.probes.task import Labels as AllLabels
from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.source import Images, ImageSource, ids_sha256, open_images
from infoscope.runtime.choices import Resize

OneLabels = str | Path | Sequence[str] | None
"""Where the labels of a split are; see `open_labelled`."""
Labels = OneLabels | Mapping[str, OneLabels]
"""Those of all splits, or by split."""


@dataclass(frozen=True)
class ClassificationTask:
    """Images of classes; a `Task`. Made by `classification_task`.

    Attributes:
        labelled: the images and labels by split, with one list of classes.
    """

    labelled: Mapping[str, LabelledImages]

    @property
    def name(self) -> TaskName:
        """``classification``."""
        return "classification"

    @property
    def metric(self) -> str:
        """Top-1 accuracy."""
        return "top-1"

    @property
    def higher_is_better(self) -> bool:
        """It is."""
        return True

    @property
    def splits(self) -> Mapping[str, ImageSource]:
        """The images by split."""
        return {split: labelled.images for split, labelled in self.labelled.items()}

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return self.labelled["train"].classes

    def check(self) -> AllLabels:
        """Labels were checked when they were opened."""
        hashes = {
            split: hashlib.sha256(labelled.labels.tobytes()).hexdigest() for split, labelled in self.labelled.items()
        }
        return AllLabels(hashes)

    def readout(self, recipe: Recipe, backbone: Backbone) -> Readout:
        """The vectors that the recipe's inputs are made of."""
        own = _without_cls(recipe.classification, backbone)
        return Readout(vectors=own.parts, final_norm=own.final_norm)

    def fit(self, features: Mapping[str, FeatureStore], recipe: Recipe, backbone: Backbone, seed: int) -> Score:
        """A head on a variant's vectors, scored on the test split."""
        arrays = {split: (store.read("vectors"), self._labels(split, store.rows)) for split, store in features.items()}
        return self._fit(arrays, _without_cls(recipe.classification, backbone), backbone.device, seed)

    def baselines(self, backbone: Backbone, recipe: Recipe, resize: Resize, seed: int) -> list[Baseline]:
        """The most frequent class, and a head on the patches' mean colours and spreads."""
        arrays = {}
        for split, images in self.splits.items():
            colours, rows = image_colours(images, backbone, resize)
            arrays[split] = (colours, self._labels(split, rows))
        guessed, top_1, top_5 = majority_label(arrays["train"][1], arrays["test"][1], len(self.classes))
        majority = {"top-1": top_1} | ({"top-5": top_5} if len(self.classes) > 5 else {})
        # Colours have no CLS token and no blocks: their mean over patches is all there is to read.
        own = replace(recipe.classification, inputs=(ClassificationInput(cls=False, mean=True),))
        score = self._fit(arrays, own, backbone.device, seed)
        return [
            Baseline("majority", majority, None, {}, [f"always {self.classes[guessed]}"]),
            Baseline("colours", dict(score.test), score.validation, dict(score.per_class), list(score.notes)),
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
            test=test,
            validation=head.chosen.score,
            chosen=describe_candidate(head.chosen) | {"trained_on": head.trained_on, "held_out": head.held_out},
            candidates=tuple(describe_candidate(each) for each in head.candidates),
            per_class=per_class,
            per_image=tuple(hits.astype(float).tolist()),
        )


def describe_candidate(candidate: Candidate) -> dict[str, Any]:
    """A head among those tried, as JSON values; a score that is not finite is None."""
    return {
        "input": candidate.input,
        "setting": candidate.setting,
        "score": candidate.score if np.isfinite(candidate.score) else None,
    }


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
    labels: Labels = None,
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
    given = {"train": train, "test": test} | ({} if validation is None else {"validation": validation})
    opened = {split: _open(images, labels, split) for split, images in given.items()}
    for split, labelled in opened.items():
        if not len(labelled):
            raise InfoscopeError(f"the {split} split {labelled.images.name} has no images; give it some, or another")
    refuse_shared({split: labelled.images for split, labelled in opened.items()})
    others = [split for split in opened if split != "train"]
    shared = share_classes(opened["train"], *(opened[split] for split in others))
    return ClassificationTask(dict(zip(["train", *others], shared, strict=True)))


def _open(images: Images | LabelledImages, labels: Labels, split: str) -> LabelledImages:
    if isinstance(images, LabelledImages):
        return images
    if isinstance(labels, Mapping):
        return open_labelled(images, labels.get(split))
    source = open_images(images)
    named = isinstance(labels, Path) or (isinstance(labels, str) and not is_kind(labels))
    if named and names_devkit(str(labels)) and not are_validation_photographs(source.ids):
        return open_labelled(source, "folder")
    return open_labelled(source, labels)
