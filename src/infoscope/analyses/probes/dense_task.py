"""What the tasks with a target for every pixel share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from infoscope.analyses.probes.baselines import split_colours
from infoscope.analyses.probes.reading import DenseFeatures, Targets
from infoscope.analyses.probes.store import FeatureStore, Readout
from infoscope.analyses.probes.targets import DenseTargets
from infoscope.analyses.probes.task import refuse_shared
from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.source import ImageSource, ids_sha256
from infoscope.runtime.choices import Resize


@dataclass(frozen=True)
class SomeTargets:
    """The targets of those photographs that could be read, in the order of their features.

    Attributes:
        targets: of all photographs.
        rows: the positions of those that could be read.
    """

    targets: DenseTargets
    rows: Int64[np.ndarray, " image"]

    def __len__(self) -> int:
        return len(self.rows)

    def target(self, index: int) -> Shaped[np.ndarray, "row column"]:
        """Of the photograph behind entry ``index`` of the features."""
        return self.targets.target(int(self.rows[index]))


Pairs = Mapping[str, tuple[DenseFeatures, SomeTargets]]
"""Features and targets by split."""

Judged = Mapping[str, tuple[DenseFeatures, Targets]]
"""The same for a head, to which it does not matter where targets are from."""

UNJUDGED = "no held-out pixel counts: give --validation and its targets, or more training photographs"
UNSCORED = "no test pixel counts: give other --test photographs and targets"
"""What a score that is not finite says: predictions that are not are refused before."""


def dense_readout(with_cls: bool, final_norm: bool, backbone: Backbone) -> Readout:
    """Every patch token of the last block, with the CLS token where a head has it beside each.

    Raises:
        InfoscopeError: a head wants a CLS token, and the model has none.
    """
    if with_cls and not backbone.layout.special_tokens:
        raise InfoscopeError(f"this recipe reads a CLS token, and {backbone.name} has none: choose --recipe simple")
    return Readout((("cls", -1),) if with_cls else (), patches=True, final_norm=final_norm)


def stored_pairs(features: Mapping[str, FeatureStore], targets: Mapping[str, DenseTargets], with_cls: bool) -> Pairs:
    """Stored features with the targets of the same photographs, by split."""
    return {
        split: (
            DenseFeatures(store.read("patches"), store.read("vectors") if with_cls else None),
            SomeTargets(targets[split], store.rows),
        )
        for split, store in features.items()
    }


def colour_pairs(targets: Mapping[str, DenseTargets], backbone: Backbone, resize: Resize) -> Pairs:
    """Patches' colours in the place of tokens, by split."""
    pairs = {}
    for split, some in targets.items():
        colours, rows = split_colours(some.images, backbone, resize)
        pairs[split] = (DenseFeatures(colours), SomeTargets(some, rows))
    return pairs


def images_by_split(targets: Mapping[str, DenseTargets]) -> dict[str, ImageSource]:
    """The photographs."""
    return {split: some.images for split, some in targets.items()}


def describe_splits(targets: Mapping[str, DenseTargets]) -> dict[str, Any]:
    """The splits, with what they are told apart by."""
    return {
        split: {"source": some.images.name, "images": len(some), "ids_sha256": ids_sha256(some.images)}
        for split, some in targets.items()
    }


def check_splits(targets: Mapping[str, DenseTargets]) -> None:
    """Refuse splits without photographs.

    Raises:
        InfoscopeError: naming the split.
    """
    for split, some in targets.items():
        if not len(some):
            raise InfoscopeError(f"the {split} split {some.images.name} has no photographs; give it some, or another")
    refuse_shared(images_by_split(targets))
