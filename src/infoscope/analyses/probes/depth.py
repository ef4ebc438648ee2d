"""Depth as a task of a probe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
from jaxtyping import Real

from infoscope.analyses.probes.dense import DenseTask, StoredTargets, check_splits
from infoscope.analyses.probes.depth_head import RECIPES, DepthHead, DepthRecipe, fit_depth
from infoscope.analyses.probes.depth_sets import LEAST, MOST, Depths, DepthSet, open_depths, open_nyu
from infoscope.analyses.probes.metrics import DepthErrors
from infoscope.analyses.probes.reading import DenseFeatures, Target, Targets
from infoscope.analyses.probes.targets import DenseTargets, read_targets
from infoscope.analyses.probes.task import Baseline, Labels
from infoscope.analyses.probes.tasks import TaskFlags
from infoscope.errors import InfoscopeError
from infoscope.images.stored import StoredIn
from infoscope.images.watched import Watched
from infoscope.options import Resize


@dataclass(frozen=True)
class DepthTask(DenseTask):
    """Photographs with a depth for every pixel. Made by `depth_task`."""

    targets: Mapping[str, DepthSet]

    name = "depth"
    metric = "RMSE"
    units: ClassVar = {"RMSE": "m", "abs-rel": "", "log10": "", **dict.fromkeys(("delta1", "delta2", "delta3"), "%")}
    higher_is_better = False
    recipes = RECIPES

    @classmethod
    def from_flags(cls, flags: TaskFlags, resize: Resize) -> DepthTask:
        """See `Task`."""
        if flags.data is not None:
            return _open_nyu(flags.data, flags, resize)
        opened = {
            split: open_depths(
                images,
                targets,
                depth_scale=flags.depth_scale,
                least=LEAST if flags.least_depth is None else flags.least_depth,
                most=MOST if flags.most_depth is None else flags.most_depth,
                image_ending=flags.image_ending,
                depth_ending=flags.target_ending,
                crop=flags.crop or "none",
                resize=resize,
            )
            for split, (images, targets) in flags.pairs().items()
        }
        return depth_task(**opened)

    def check(self) -> Labels:
        """Every depth map is read once.

        Raises:
            InfoscopeError: a depth map is wrong, or none has a depth.
        """
        counts = {split: measure_depths(each) for split, each in self.targets.items()}
        return Labels({split: asdict(each) for split, each in counts.items()})

    def train(self, pairs: tuple[DenseFeatures, Targets], recipe: DepthRecipe, **options: Any) -> DepthHead:
        """See `DenseTask`."""
        test = self.targets["test"]
        # The range of these data, whatever the recipe was published for.
        own = replace(recipe, least_depth=test.least, most_depth=test.most)
        return fit_depth(*pairs, own, **options)

    def judge(self, predictions: Iterable[tuple[Target, Target]]) -> dict[str, Any]:
        """See `DenseTask`."""
        errors = DepthErrors(self.targets["test"].least, self.targets["test"].most)
        for predicted, depth in predictions:
            errors.add(depth, predicted)
        return {"test": _scores(errors), "per_image": tuple(errors.rmse_by_image), "notes": ()}

    def guess(self, train: Sequence[int], test: Sequence[int]) -> Baseline:
        """The training split's mean depth everywhere."""
        known = measure_depths(self.targets["train"], train)
        guessed = mean_depth(known, self.targets["test"], test)
        return Baseline("majority", _scores(guessed), None, {}, [f"{known.mean:.3f} m everywhere"])

    def describe(self) -> dict[str, Any]:
        """The splits, with what they are told apart by, and which of their depths count."""
        described = super().describe()
        for split, targets in self.targets.items():
            described["splits"][split] |= {
                "depths": targets.depths.form,
                "crop": targets.crop,
                "range": [targets.least, targets.most],
            }
        return described

    def watch_targets(self, targets: DenseTargets, images: Watched) -> tuple[DepthSet, Watched]:
        """The maps are watched as they are stored, before it is said which depths count."""
        assert isinstance(targets, DepthSet)
        depths = _WatchedDepths(targets.depths, Watched(StoredTargets(targets.depths, targets.depths.read, images)))
        return replace(targets, images=images, depths=depths), depths.watched


def depth_task(train: DepthSet, test: DepthSet, validation: DepthSet | None = None) -> DepthTask:
    """Photographs with a depth for every pixel, for a probe.

    Args:
        train: what heads are trained on; see `infoscope.analyses.probes.depth_sets`.
        test: what heads are scored on, and nothing is chosen by.
        validation: what choices are made on; without it a share of the training photographs is held out.

    Raises:
        InfoscopeError: a split has no photographs, or splits have other ranges of depth.
    """
    splits = check_splits(train, test, validation)
    for split, targets in splits.items():
        if (targets.least, targets.most) != (train.least, train.most):
            raise InfoscopeError(
                f"depths count from {targets.least:g} to {targets.most:g} m in the {split} split and from "
                f"{train.least:g} to {train.most:g} m in the training split: open all splits with one range"
            )
    return DepthTask(splits)


def _open_nyu(data: str, flags: TaskFlags, resize: Resize) -> DepthTask:
    if flags.least_depth is not None or flags.most_depth is not None:
        raise InfoscopeError(
            f"--least-depth and --most-depth are of --train; NYU Depth v2 is from {LEAST:g} to {MOST:g} m"
        )
    options: dict[str, Any] = {"splits": flags.nyu_splits, "field": flags.nyu_depths, "crop": flags.crop or "eigen"}
    train = open_nyu(data, "train", listed=flags.train_list, resize=resize, **options)
    test = open_nyu(data, "test", listed=flags.test_list, resize=resize, **options)
    if (flags.train_list is None) != (flags.test_list is None) or train.images.ids == test.images.ids:
        raise InfoscopeError(f"{data} does not say which frames to train on: give --train-list and --test-list")
    return depth_task(train, test)


def _scores(errors: DepthErrors) -> dict[str, float]:
    means = asdict(errors.scores())
    return {
        "RMSE": means["rmse"],
        "abs-rel": means["abs_rel"],
        "log10": means["log10"],
        **{name: means[name] for name in ("delta1", "delta2", "delta3")},
    }


@dataclass(frozen=True)
class DepthCounts:
    """The depths of a split.

    Attributes:
        mean: over all pixels that count, in metres.
        pixels: that count.
        holes: that do not.
    """

    mean: float
    pixels: int
    holes: int


def measure_depths(targets: DenseTargets, indices: Iterable[int] | None = None) -> DepthCounts:
    """Read every depth map of a split once.

    Args:
        targets: the split.
        indices: which photographs; all when not given.

    Raises:
        InfoscopeError: a depth map is wrong (`DenseTargets.target`), or there is none.
    """
    total, pixels, holes = 0.0, 0, 0
    for target in read_targets(targets, indices):
        counted = target[target > 0]
        total += float(counted.sum(dtype=np.float64))
        pixels += len(counted)
        holes += target.size - len(counted)
    if not pixels:
        raise InfoscopeError(f"no depth map of {targets.images.name} has a depth: check --depth-scale")
    return DepthCounts(total / pixels, pixels, holes)


def mean_depth(train: DepthCounts, test: DenseTargets, indices: Iterable[int] | None = None) -> DepthErrors:
    """Depth by the training split's mean everywhere, which no other constant beats in RMSE on that split.

    Args:
        train: what `measure_depths` found in the training split.
        test: the split that is judged.
        indices: which of its photographs; all when not given.

    Raises:
        InfoscopeError: a depth map of the test split is wrong.
    """
    errors = DepthErrors(most=float(np.finfo(np.float32).max))
    for target in read_targets(test, indices, title="Guessing the mean depth"):
        errors.add(target, np.full(target.shape, train.mean, np.float32))
    return errors


@dataclass(frozen=True, eq=False)
class _WatchedDepths:
    """Depth maps that are watched; a `Depths`."""

    depths: Depths
    watched: Watched

    @property
    def form(self) -> str:
        """See `Depths`."""
        return self.depths.form

    def read(self, index: int) -> Real[np.ndarray, "row column"]:
        """See `Depths`."""
        return cast("np.ndarray", self.watched.read(index))

    def where(self, index: int) -> str:
        """See `Depths`."""
        return self.depths.where(index)

    def stored_in(self) -> StoredIn:
        """See `Depths`."""
        return self.depths.stored_in()

    def forget(self) -> None:
        """See `Depths`."""
        self.depths.forget()
