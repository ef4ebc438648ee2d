"""A task whose photographs and targets are noticed when they change, from one start of a probe to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Real, Shaped

from infoscope.analyses.probes.classification import ClassificationTask
from infoscope.analyses.probes.depth import DepthTask
from infoscope.analyses.probes.depth_sets import Depths
from infoscope.analyses.probes.segmentation import SegmentationTask
from infoscope.analyses.probes.targets import DenseTargets
from infoscope.analyses.probes.task import Task
from infoscope.images.ids import StoredIn
from infoscope.images.source import ImageSource
from infoscope.images.watched import InFiles, Remembering, Watched, watch
from infoscope.measurement.identity import with_kept_stamp
from infoscope.runtime.run import PARTIALS, claim_directory

# The folder of partials that holds what images and targets are like.
CONTENTS = "contents"


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
        kept = out / PARTIALS / CONTENTS
        place = {
            each: kept / f"{split}-{what}.u8"
            for what, some in (("images", self.images), ("targets", self.targets))
            for split, each in some.items()
        }

        def same(found: dict[str, Any]) -> bool:
            """Whether all that was read is known, and as it was."""
            if not kept.exists():  # from before contents were kept, when a plan had the files' sizes and times
                return bool(found.get("stamps") == {split: images.stamp() for split, images in self.images.items()})
            for images in self.images.values():
                if not place[images].is_file():
                    return False
                images.keep(place[images])
                images.verify(np.flatnonzero(images.contents))
            return True

        def merge(found: dict[str, Any]) -> dict[str, Any]:
            return plan | {"stamps": found.get("stamps")}

        claim_directory(out, with_kept_stamp(out, plan, merge, same))
        for each, path in place.items():
            each.keep(path)

    def check(self) -> None:
        """Make sure that all that was read is still what it was.

        Raises:
            ChangedImageError: something is not.
        """
        for each in (*self.images.values(), *self.targets.values()):
            each.check()


def watch_task(task: Task) -> WatchedTask:
    """The task, watched."""
    images = {split: watch(some) for split, some in task.splits.items()}
    if isinstance(task, ClassificationTask):
        labelled = {split: replace(some, images=images[split]) for split, some in task.labelled.items()}
        return WatchedTask(replace(task, labelled=labelled), images, {})
    if isinstance(task, SegmentationTask):
        masks = {split: _WatchedMasks(some, images[split]) for split, some in task.targets.items()}
        return WatchedTask(replace(task, targets=masks), images, {split: each.watched for split, each in masks.items()})
    if isinstance(task, DepthTask):
        depths = {split: _WatchedDepths(some.depths, some.images) for split, some in task.targets.items()}
        sets = {
            split: replace(some, images=images[split], depths=depths[split]) for split, some in task.targets.items()
        }
        return WatchedTask(replace(task, targets=sets), images, {split: each.watched for split, each in depths.items()})
    return WatchedTask(task, images, {})


class _WatchedMasks:
    """Masks that are watched; a `DenseTargets`."""

    def __init__(self, masks: DenseTargets, images: Watched):
        self.images = images
        self.classes = masks.classes
        self.watched = Watched(_Stored(masks, masks.target, masks.images))

    def __len__(self) -> int:
        return len(self.watched)

    def target(self, index: int) -> Shaped[np.ndarray, "row column"]:
        """See `DenseTargets`."""
        return cast("np.ndarray", self.watched.read(index))


class _WatchedDepths:
    """Depth maps that are watched; a `Depths`."""

    def __init__(self, depths: Depths, images: ImageSource):
        self._depths = depths
        self.form = depths.form
        self.watched = Watched(_Stored(depths, depths.read, images))

    def read(self, index: int) -> Real[np.ndarray, "row column"]:
        """See `Depths`."""
        return cast("np.ndarray", self.watched.read(index))

    def where(self, index: int) -> str:
        """See `Depths`."""
        return self._depths.where(index)

    def stored_in(self) -> StoredIn:
        """See `Depths`."""
        return self._depths.stored_in()

    def forget(self) -> None:
        """See `Depths`."""
        self._depths.forget()


class _Stored:
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
