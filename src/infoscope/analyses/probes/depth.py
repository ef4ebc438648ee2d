"""Depth as a task of a probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from infoscope.analyses.probes.baselines import mean_depth
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
from infoscope.analyses.probes.depth_head import fit_depth
from infoscope.analyses.probes.depth_sets import DepthSet
from infoscope.analyses.probes.metrics import DepthErrors
from infoscope.analyses.probes.recipes import DepthRecipe, Recipe
from infoscope.analyses.probes.record import Baseline
from infoscope.analyses.probes.store import FeatureStore, Readout
from infoscope.analyses.probes.survey import measure_depths
from infoscope.analyses.probes.task import Labels, Score, TaskName, check_score
from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.source import ImageSource
from infoscope.runtime.choices import Resize


@dataclass(frozen=True)
class DepthTask:
    """Photographs with a depth for every pixel; a `Task`. Made by `depth_task`.

    Attributes:
        targets: photographs and depth maps by split.
    """

    targets: Mapping[str, DepthSet]

    @property
    def name(self) -> TaskName:
        """``depth``."""
        return "depth"

    @property
    def metric(self) -> str:
        """Root mean squared error in metres, mean over images."""
        return "RMSE"

    @property
    def higher_is_better(self) -> bool:
        """It is an error."""
        return False

    @property
    def splits(self) -> Mapping[str, ImageSource]:
        """The photographs by split."""
        return images_by_split(self.targets)

    def check(self) -> Labels:
        """Every depth map is read once.

        Raises:
            InfoscopeError: a depth map is wrong, or none has a depth.
        """
        found = {split: measure_depths(each) for split, each in self.targets.items()}
        return Labels({split: asdict(each) for split, each in found.items()})

    def readout(self, recipe: Recipe, backbone: Backbone) -> Readout:
        """Every patch token of the last block, and the CLS token where the head has it beside each."""
        return dense_readout(recipe.depth.cls, recipe.depth.final_norm, backbone)

    def fit(self, features: Mapping[str, FeatureStore], recipe: Recipe, backbone: Backbone, seed: int) -> Score:
        """A head on a variant's patch tokens, scored at the size of each test map."""
        pairs = stored_pairs(features, self.targets, recipe.depth.cls)
        return self._fit(pairs, recipe.depth, backbone.device, seed)

    def baselines(self, backbone: Backbone, recipe: Recipe, resize: Resize, seed: int) -> list[Baseline]:
        """The training split's mean depth everywhere, and a head on the patches' colours."""
        pairs = colour_pairs(self.targets, backbone, resize)
        known = measure_depths(self.targets["train"], pairs["train"][1].rows.tolist())
        guessed = mean_depth(known, self.targets["test"], pairs["test"][1].rows.tolist())
        # Colours have no CLS token.
        score = self._fit(pairs, replace(recipe.depth, cls=False), backbone.device, seed)
        return [
            Baseline("majority", _scores(guessed), None, {}, [f"{known.mean:.3f} m everywhere"]),
            Baseline("colours", dict(score.test), score.validation, {}, list(score.notes)),
        ]

    def describe(self) -> dict[str, Any]:
        """The splits, with what they are told apart by, and which of their depths count."""
        splits = describe_splits(self.targets)
        for split, targets in self.targets.items():
            own = {"depths": targets.depths.form, "crop": targets.crop, "range": [targets.least, targets.most]}
            splits[split] = splits[split] | own
        return {"task": self.name, "splits": splits}

    def _fit(self, pairs: Judged, recipe: DepthRecipe, device: torch.device, seed: int) -> Score:
        test = self.targets["test"]
        head = fit_depth(
            *pairs["train"],
            # Of these data, whatever the recipe was published for.
            replace(recipe, least_depth=test.least, most_depth=test.most),
            validation=pairs.get("validation"),
            seed=seed,
            device=device,
        )
        check_score("validation RMSE", head.chosen.score, UNJUDGED)
        errors = DepthErrors(test.least, test.most)
        for predicted, depth in head.predictions(*pairs["test"]):
            errors.add(depth, predicted)
        scores = _scores(errors)
        for name, value in scores.items():
            check_score(f"test {name}", value, UNSCORED)
        return Score(
            test=scores,
            validation=head.chosen.score,
            chosen=describe_candidate(head.chosen) | {"trained_on": head.trained_on, "held_out": head.held_out},
            candidates=tuple(describe_candidate(each) for each in head.candidates),
            per_image=tuple(errors.rmse_by_image),
        )


def depth_task(train: DepthSet, test: DepthSet, validation: DepthSet | None = None) -> DepthTask:
    """Photographs with a depth for every pixel, for a probe.

    Args:
        train: what heads are trained on; see `infoscope.analyses.probes.depth_sets`.
        test: what heads are scored on, and nothing is chosen by.
        validation: what choices are made on; without it a share of the training photographs is held out.

    Raises:
        InfoscopeError: a split has no photographs, or splits have other ranges of depth.
    """
    splits = {"train": train, "test": test} | ({} if validation is None else {"validation": validation})
    check_splits(splits)
    for split, targets in splits.items():
        if (targets.least, targets.most) != (train.least, train.most):
            raise InfoscopeError(
                f"depths count from {targets.least:g} to {targets.most:g} m in the {split} split and from "
                f"{train.least:g} to {train.most:g} m in the training split: open all splits with one range"
            )
    return DepthTask(splits)


def _scores(errors: DepthErrors) -> dict[str, float]:
    found = asdict(errors.scores())
    return {
        "RMSE": found["rmse"],
        "abs-rel": found["abs_rel"],
        "log10": found["log10"],
        **{name: found[name] for name in ("delta1", "delta2", "delta3")},
    }
