"""The options of a probe, each with the reason for its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from infoscope.analyses.probes.recipes import check_recipe
from infoscope.analyses.removal.config import SAMPLE_IMAGES
from infoscope.options import Resize
from infoscope.runtime.typed import Above0, Count, Range, check_fields

FeatureType = Literal["float16", "float32"]


@dataclass(frozen=True)
class ProbeConfig:
    """How features are extracted and probed.

    Raises:
        InfoscopeError: there is no such recipe, or a number is out of range.

    Example:
        >>> ProbeConfig(recipe="best")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --recipe 'best' is not known: choose simple or dinov2
    """

    recipe: str = "simple"
    """How heads are trained: simple (one linear layer, by convex optimisation) or dinov2 (as published there). Our
    choice: the paper's own head is not known, and simple has no learning rate to be lucky with."""
    resize: Resize | None = None
    """How an image becomes square: stretch ignores the aspect ratio, crop takes the centre. Default: the run's."""
    disk_gib: Above0 = 20.0
    """Most space for features at a time, in GiB. Variants that do not fit together are extracted one group after the
    other, and each group runs the model on the images again. Our choice."""
    feature_type: FeatureType = "float16"
    """Type of the features on disk. float16 takes half the space; float32 where tokens are beyond its range."""
    keep_features: bool = False
    """Keep a variant's features once its head is trained."""
    baselines: bool = True
    """Also probe without a model: the most frequent answer, and the patches' colours."""
    sample_images: Annotated[int, Range(2)] = SAMPLE_IMAGES
    """Training images whose codes give the activation mass, the mean codes, and the codes to resample. Our choice:
    with fewer, sets of equal energy on these images are not so on others."""
    seed: Count = 0
    """Seed of what is held out of the training images, and of heads that start at random."""

    def __post_init__(self) -> None:
        check_recipe(self.recipe)
        check_fields(self)
