"""What ``outliers.json`` holds, apart from the tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from infoscope.analyses.outliers.config import Cutoff
from infoscope.analyses.outliers.groups import GroupActivation
from infoscope.analyses.outliers.probes import LabelScore, PixelScore, PositionScore
from infoscope.runtime.manifest import DictionaryRecord, ImagesRecord, ModelRecord

FORMAT_VERSION = 1
Kind = Literal["outlier", "tail"]


@dataclass(frozen=True)
class Presence:
    """Whether there are outlier tokens (method, section 6).

    Attributes:
        kind: what is above the cutoff at the block: ``outlier`` tokens, or the ``tail`` of one distribution.
        blocks: the blocks that have outlier tokens, ascending.
        long_share: share of the block's tokens above 3 times the median norm.
        reach: the longest token's norm over the median, at the block.
        farthest_block: the block with the largest such ratio.
        farthest_reach: that ratio.
        sentence: the same in words.
    """

    kind: Kind
    blocks: list[int]
    long_share: float
    reach: float
    farthest_block: int
    farthest_reach: float
    sentence: str


@dataclass(frozen=True)
class CutoffUsed:
    """From which norm on the analyses call a token an outlier.

    Attributes:
        asked: the cutoff asked for.
        used: the one taken; another where there is no valley.
        threshold: the norm.
        tokens: tokens of the sample above it, at the block.
        share: the same as a share of all.
        images: images with such a token.
    """

    asked: Cutoff
    used: Cutoff
    threshold: float
    tokens: int
    share: float
    images: int


@dataclass(frozen=True)
class Places:
    """Where on the grid the outlier tokens sit.

    Attributes:
        patches: patches that are an outlier in any image.
        cells: patches there are.
        likeliest: the patch that is one most often, row-major; None without outlier tokens.
        likeliest_share: share of the outlier tokens that sit there.
        corner_share: share of them on the four corner patches.
        corner_even: what that would be were they spread evenly.
        border_share: share of them on the outermost ring, corners included.
        border_even: what that would be were they spread evenly.
    """

    patches: int
    cells: int
    likeliest: int | None
    likeliest_share: float | None
    corner_share: float | None
    corner_even: float
    border_share: float | None
    border_even: float


@dataclass(frozen=True)
class MaskDistance:
    """How far one kind of mask moves between the two crops.

    Attributes:
        mask: ``outlier``, ``next``, ``random`` or ``complement``.
        pairs: images it is the mean over: outlier tokens on the overlap in both crops, and a mask to compare.
        mean: mean distance, as a share of D; None without pairs.
        error: standard error of that mean over images; None with fewer than two.
        below_outlier: how much less it is than the outlier mask's distance, mean over the same images.
        below_outlier_error: standard error of that.
    """

    mask: str
    pairs: int
    mean: float | None
    error: float | None
    below_outlier: float | None
    below_outlier_error: float | None


@dataclass(frozen=True)
class Stability:
    """How stable the outlier mask is under the shift.

    Attributes:
        images: images of the sample.
        pairs: those with outlier tokens on the overlap in both crops.
        vanished: of those with any there, the share with some in exactly one crop; None without.
        size: outlier tokens on the overlap, mean over the pairs and both crops; None without pairs.
        masks: the distances, the outlier mask's first.
    """

    images: int
    pairs: int
    vanished: float | None
    size: float | None
    masks: list[MaskDistance]


@dataclass(frozen=True)
class Probes:
    """What tokens carry: each probe on outlier tokens and on as many normal ones; None where it cannot be made.

    Attributes:
        position_outlier: position, of outlier tokens.
        position_normal: position, of normal tokens at the same patches of other images.
        pixels_outlier: pixels, of outlier tokens.
        pixels_normal: pixels, of normal tokens of the same images.
        labels_outlier: label, of one outlier token an image.
        labels_normal: label, of one normal token of each of the same images.
        labels_special: label, of the CLS token of the same images.
        notes: why a probe is missing.
    """

    position_outlier: PositionScore | None
    position_normal: PositionScore | None
    pixels_outlier: PixelScore | None
    pixels_normal: PixelScore | None
    labels_outlier: LabelScore | None
    labels_normal: LabelScore | None
    labels_special: LabelScore | None
    notes: list[str]


@dataclass(frozen=True)
class Groups:
    """Feature groups on outlier and on normal tokens.

    Attributes:
        groups: each group.
        cds_rank_correlation: Spearman's correlation of CDS with the preference for outlier tokens; None if undefined.
        features: how many features that is over.
    """

    groups: list[GroupActivation]
    cds_rank_correlation: float | None
    features: int


@dataclass(frozen=True)
class OutlierRecord:
    """All of ``outliers.json``; its parts are documented by their classes. Timings are seconds by stage."""

    format_version: int
    command: str
    options: dict[str, Any]
    model: ModelRecord
    dictionary: DictionaryRecord | None
    images: ImagesRecord
    sample: int
    tokens: int
    software: dict[str, str]
    timings: dict[str, float]
    presence: Presence
    cutoff: CutoffUsed
    places: Places
    stability: Stability
    probes: Probes
    groups: Groups | None
    notes: list[str]


def without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become None.

    Example:
        >>> without_nan({"a": [1.0, float("nan")], "b": float("inf")})
        {'a': [1.0, None], 'b': None}
    """
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
