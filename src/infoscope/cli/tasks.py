"""The flags that name a probe's task and its data sets, shared by the commands that train heads."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from infoscope.errors import InfoscopeError

if TYPE_CHECKING:
    from infoscope.analyses.probes.nyu_labelled import NyuSplit
    from infoscope.analyses.probes.task import Task
    from infoscope.runtime.choices import Resize

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class TaskFlags:
    """The task, and where its images and labels are."""

    task: Literal["classification", "segmentation", "depth"] = "classification"
    """What heads are trained for."""
    data: str | None = None
    """A data set whose layout is known, in place of --train and --test: ADE20K's or CamVid's folder (segmentation), NYU
    Depth v2's labelled .mat or its folder (depth), a folder with train and val, test, or both (classification)."""
    train: str | None = None
    """The images that heads are trained on: as --images of `infoscope measure`, with labels; for segmentation and depth
    a folder of photographs."""
    validation: str | None = None
    """The images that choices are made on. Default: the data set's own, else a part of the training images."""
    test: str | None = None
    """The images that heads are scored on; nothing is chosen by them."""
    labels: str | None = None
    """Classification: folder (an image's label is its folder), column or column:NAME of a data set, a file whose lines
    are a path and a label, or ImageNet's devkit (for its validation photographs alone). Default: what the images come
    with."""
    train_labels: str | None = None
    """Those of the training images alone, in place of --labels."""
    validation_labels: str | None = None
    """Those of the images that choices are made on."""
    test_labels: str | None = None
    """Those of the images that heads are scored on."""
    train_targets: Path | None = None
    """Segmentation and depth: the masks or depth maps of --train, under the photographs' names."""
    validation_targets: Path | None = None
    """Those of --validation."""
    test_targets: Path | None = None
    """Those of --test."""
    classes: Path | None = None
    """Segmentation with --train: names of the classes, one a line, in the order of their numbers."""
    ignore_index: int = 255
    """Segmentation with --train: the number in a mask that does not count."""
    reduce_zero_label: bool = False
    """Segmentation with --train: 0 does not count, and classes are numbered from 1, as in ADE20K."""
    image_ending: str = ""
    """Segmentation and depth with --train: what photographs' names end with, and targets' do not.
    Default: the suffix."""
    target_ending: str = ""
    """What targets' names end with and photographs' do not. Default: the suffix."""
    depth_scale: float | None = None
    """Depth with --train: units to the metre. Default: 1,000 for whole numbers, 1 for floats."""
    least_depth: float | None = None
    """Depth with --train: depths count from here on, in metres. Default: 0.001."""
    most_depth: float | None = None
    """Depth with --train: depths count up to here, in metres, and predictions end here. Default: 10."""
    crop: Literal["eigen", "none"] | None = None
    """Depth: eigen takes what lies outside of Eigen's crop for holes. Default: eigen for NYU, none for folders."""
    nyu_depths: Literal["depths", "rawDepths"] = "depths"
    """Depth with NYU's .mat: the maps with holes filled in, or as measured."""
    nyu_splits: Path | None = None
    """Depth with NYU's .mat: its splits.mat. Default: beside it."""
    train_list: Path | None = None
    """Depth with NYU's folders: the list of the training frames, "photograph depth-map focal-length" a line."""
    test_list: Path | None = None
    """That of the test frames."""

    def open(self, resize: Resize) -> Task:
        """The task.

        Args:
            resize: how views are made square, and so their targets.

        Raises:
            InfoscopeError: flags are missing or do not go together, or the data cannot be read.
        """
        if (self.data is None) == (self.train is None):
            raise InfoscopeError("give --data, or --train and --test: one of the two")
        if self.train is not None and self.test is None:
            raise InfoscopeError("--train needs --test: the images that heads are scored on")
        if self.data is not None and (self.test or self.validation):
            raise InfoscopeError("--data names all splits; leave out --test and --validation, or give --train too")
        if self.task == "classification":
            return self._classification()
        return self._segmentation(resize) if self.task == "segmentation" else self._depth(resize)

    def _classification(self) -> Task:
        from infoscope.analyses.probes.classification import classification_task

        if self.data is not None:
            folders = {split: Path(self.data) / split for split in ("train", "val", "test")}
            there = [split for split in ("val", "test") if folders[split].expanduser().is_dir()]
            given = {"train": str(folders["train"]), "test": str(folders["test" if "test" in there else "val"])}
            given |= {"validation": str(folders["val"])} if len(there) == 2 else {}
        else:
            assert self.train is not None
            assert self.test is not None
            given = {"train": self.train, "test": self.test}
            given |= {} if self.validation is None else {"validation": self.validation}
        return classification_task(**given, labels=self._labels(given))

    def _labels(self, splits: Collection[str]) -> str | dict[str, str | None] | None:
        """Where labels are: of all splits, or by split."""
        own: dict[str, str | None] = {
            split: getattr(self, f"{split}_labels") for split in ("train", "validation", "test")
        }
        if not any(own.values()):
            return self.labels
        if self.labels is not None:
            raise InfoscopeError(
                "--labels is of all splits: leave it out, or leave out --train-labels, --validation-labels and "
                "--test-labels"
            )
        for split, labels in own.items():
            if labels is not None and split not in splits:
                raise InfoscopeError(f"--{split}-labels: there are no {split} images; there are {' and '.join(splits)}")
        return own

    def _segmentation(self, resize: Resize) -> Task:
        from infoscope.analyses.probes.segmentation import segmentation_task
        from infoscope.analyses.probes.segmentation_sets import open_masks, open_segmentation, splits_of

        if self.data is not None:
            opened = {role: open_segmentation(self.data, split, resize) for role, split in splits_of(self.data).items()}
        else:
            opened = {}
            for split, (images, targets) in self._pairs().items():
                opened[split] = open_masks(
                    images,
                    targets,
                    # The numbers that there are, if nothing names them, are the training split's.
                    classes=self.classes or (opened["train"].classes if opened else None),
                    ignore_index=self.ignore_index,
                    reduce_zero_label=self.reduce_zero_label,
                    image_ending=self.image_ending,
                    mask_ending=self.target_ending,
                    resize=resize,
                )
        return segmentation_task(opened["train"], opened["test"], opened.get("validation"))

    def _depth(self, resize: Resize) -> Task:
        from infoscope.analyses.probes.depth import depth_task
        from infoscope.analyses.probes.depth_sets import LEAST, MOST, open_depths, open_nyu

        if self.data is not None:
            if self.least_depth is not None or self.most_depth is not None:
                raise InfoscopeError(
                    f"--least-depth and --most-depth are of --train; NYU Depth v2 is from {LEAST:g} to {MOST:g} m"
                )
            train, test = (
                open_nyu(
                    self.data,
                    cast("NyuSplit", split),
                    splits=self.nyu_splits,
                    listed=listed,
                    field=self.nyu_depths,
                    crop=self.crop or "eigen",
                    resize=resize,
                )
                for split, listed in (("train", self.train_list), ("test", self.test_list))
            )
            if (self.train_list is None) != (self.test_list is None) or train.images.ids == test.images.ids:
                raise InfoscopeError(
                    f"{self.data} does not say which frames to train on: give --train-list and --test-list"
                )
            return depth_task(train, test)
        opened = {
            split: open_depths(
                images,
                targets,
                depth_scale=self.depth_scale,
                least=LEAST if self.least_depth is None else self.least_depth,
                most=MOST if self.most_depth is None else self.most_depth,
                image_ending=self.image_ending,
                depth_ending=self.target_ending,
                crop=self.crop or "none",
                resize=resize,
            )
            for split, (images, targets) in self._pairs().items()
        }
        return depth_task(opened["train"], opened["test"], opened.get("validation"))

    def _pairs(self) -> dict[str, tuple[str, Path]]:
        """Photographs and targets by split."""
        pairs = {}
        for split in ("train", "validation", "test"):
            images, targets = getattr(self, split), getattr(self, f"{split}_targets")
            if (images is None) != (targets is None):
                given, missing = (
                    (f"--{split}-targets", f"--{split}") if images is None else (f"--{split}", f"--{split}-targets")
                )
                raise InfoscopeError(f"{given} needs {missing}: {self.task} takes photographs and targets")
            if images is not None:
                pairs[split] = (images, targets)
        return pairs
