"""The tasks that there are, and the flags that name one and its data sets.

Commands have these flags, so nothing heavy is imported here: torch would take seconds from ``--help``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from infoscope.errors import InfoscopeError

if TYPE_CHECKING:
    from infoscope.analyses.probes.task import Task
    from infoscope.options import Resize

TaskName = Literal["classification", "segmentation", "depth"]
# The module of each task in this package, and its class there.
TASKS: dict[TaskName, tuple[str, str]] = {
    "classification": ("classification", "ClassificationTask"),
    "segmentation": ("segmentation", "SegmentationTask"),
    "depth": ("depth", "DepthTask"),
}


def find_task(name: TaskName) -> type[Task]:
    """The class of a task.

    Example:
        >>> find_task("depth").metric
        'RMSE'
    """
    module, name_in_it = TASKS[name]
    task: type[Task] = getattr(import_module(f"infoscope.analyses.probes.{module}"), name_in_it)
    return task


@dataclass(frozen=True)
class TaskFlags:
    """The task, and where its images and labels are."""

    task: TaskName = "classification"
    """What heads are trained for."""
    data: str | None = None
    """A data set with a known layout, in place of --train and --test: ADE20K's or CamVid's folder (segmentation), NYU
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
    """Where the labels of the training images are, in place of --labels."""
    validation_labels: str | None = None
    """Where the labels of the validation images are, in place of --labels."""
    test_labels: str | None = None
    """Where the labels of the test images are, in place of --labels."""
    train_targets: Path | None = None
    """Segmentation and depth: the masks or depth maps of --train, under the photographs' names."""
    validation_targets: Path | None = None
    """The masks or depth maps of --validation."""
    test_targets: Path | None = None
    """The masks or depth maps of --test."""
    classes: Path | None = None
    """Segmentation with --train: names of the classes, one per line, in the order of their numbers."""
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
    """Depth with --train: the smallest depth that counts, in metres. Default: 0.001."""
    most_depth: float | None = None
    """Depth with --train: the largest depth that counts, in metres, and the largest predicted. Default: 10."""
    crop: Literal["eigen", "none"] | None = None
    """Depth: eigen treats what lies outside Eigen's crop as holes. Default: eigen for NYU, none for folders."""
    nyu_depths: Literal["depths", "rawDepths"] = "depths"
    """Depth with NYU's .mat: the maps with holes filled in, or as measured."""
    nyu_splits: Path | None = None
    """Depth with NYU's .mat: its splits.mat. Default: beside it."""
    train_list: Path | None = None
    """Depth with NYU's folders: the list of the training frames, "photograph depth-map focal-length" a line."""
    test_list: Path | None = None
    """Depth with NYU's folders: the list of the test frames."""

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
        return find_task(self.task).from_flags(self, resize)

    def pairs(self) -> dict[str, tuple[str, Path]]:
        """Photographs and targets by split, of a task with a target for every pixel.

        Raises:
            InfoscopeError: one of the two is missing.
        """
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
