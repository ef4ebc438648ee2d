"""The record of an analysis of outlier tokens, which ``outliers.json`` holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from infoscope.options import Cutoff
from infoscope.runtime.manifest import DictionaryRecord, ImagesRecord, ModelRecord
from infoscope.runtime.schema import SCOPE

FORMAT_VERSION = 1
Kind = Literal["outlier", "tail"]


@dataclass(frozen=True)
class Presence:
    """Whether there are outlier tokens (method, section 6).

    Attributes:
        kind: what is above the cutoff at the block: ``outlier`` tokens, or only the ``tail`` of one distribution.
        blocks: the blocks that have outlier tokens, ascending.
        long_share: share of the block's tokens above 3 times the median norm.
        reach: the longest token's norm over the median norm, at the block.
        farthest_block: the block where that ratio is largest.
        farthest_reach: the ratio there.
        sentence: the finding in words.
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
    """The norm above which the analyses call a token an outlier.

    Attributes:
        asked: the cutoff that was asked for.
        used: the cutoff that was used; a different one where there is no valley.
        threshold: the norm.
        tokens: tokens of the sample above that norm, at the block.
        share: their share of all patch tokens.
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
    """Where on the grid the outlier tokens are.

    Attributes:
        patches: patches that are an outlier in at least one image.
        cells: patches of the grid.
        likeliest: the patch that is an outlier most often, row-major; None without outlier tokens.
        likeliest_share: share of the outlier tokens at that patch.
        corner_share: share of the outlier tokens on the four corner patches.
        corner_even: what ``corner_share`` would be if they were spread evenly.
        border_share: share of the outlier tokens on the outermost ring, corners included.
        border_even: what ``border_share`` would be if they were spread evenly.
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
        pairs: images that the mean is over: those with outlier tokens on the overlap in both crops, and with this mask.
        mean: mean distance, as a share of D; None without pairs.
        error: standard error of that mean over images; None with fewer than two.
        below_outlier: how much shorter the distance is than that of the outlier mask, mean over the same images.
        below_outlier_error: standard error of that difference.
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
        pairs: images with outlier tokens on the overlap in both crops.
        vanished: share of the images with outlier tokens on the overlap that have them in exactly one crop; None if no
            image has any.
        size: outlier tokens on the overlap, mean over the pairs and both crops; None without pairs.
        masks: the distances, that of the outlier mask first.
        tokens: outlier tokens on the overlap in the first crop, over all images; None in older records.
        on_pixels: share of them whose pixels are those of an outlier token in the second crop too; None without any.
        at_place: share of them at whose place in the second crop there is an outlier token too.
    """

    images: int
    pairs: int
    vanished: float | None
    size: float | None
    masks: list[MaskDistance]
    tokens: int | None = None
    on_pixels: float | None = None
    at_place: float | None = None


@dataclass(frozen=True)
class PositionScore:
    """How well a token predicts its own position on the grid.

    Attributes:
        tokens: number of tokens probed.
        r2: explained variance of row and column, by ridge regression.
        error: mean distance from the predicted to the true position, in patches.
        baseline_error: that distance for a probe that sees no token and predicts the mean position.
        top1: share of the tokens whose patch a linear classifier predicts.
        baseline_top1: that share for the most frequent patch.
    """

    tokens: int
    r2: float
    error: float
    baseline_error: float
    top1: float
    baseline_top1: float


@dataclass(frozen=True)
class PixelScore:
    """How well a token predicts the pixels of its patch, by ridge regression.

    Attributes:
        tokens: number of tokens probed.
        r2: explained variance of all pixels of the patch.
        rmse: root mean squared error of a pixel, in levels of 255.
        baseline_rmse: that error for the mean patch.
        colour_r2: explained variance of the patch's mean colour.
    """

    tokens: int
    r2: float
    rmse: float
    baseline_rmse: float
    colour_r2: float


@dataclass(frozen=True)
class LabelScore:
    """How well one token predicts its picture's label, by logistic regression.

    Attributes:
        tokens: number of tokens probed, one an image.
        labels: number of different labels among them.
        top1: share of the images whose label the probe predicts.
        baseline_top1: that share for the most frequent label.
    """

    tokens: int
    labels: int
    top1: float
    baseline_top1: float


@dataclass(frozen=True)
class Probes:
    """What tokens carry: each probe on outlier tokens and on as many normal ones; None where a probe is not possible.

    Attributes:
        position_outlier: position, of outlier tokens.
        position_normal: position, of normal tokens at the same patches of other images.
        pixels_outlier: pixels, of outlier tokens.
        pixels_normal: pixels, of normal tokens of the same images.
        labels_outlier: label, of one outlier token an image.
        labels_normal: label, of one normal token of each of the same images.
        labels_special: label, of the CLS token of the same images.
        notes: why probes are missing.
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
class GroupActivation:
    """A feature group's codes on outlier tokens and on normal ones.

    Attributes:
        name: name of the group.
        kind: what divides the features: ``partition`` or ``class``.
        features: number of features in the group.
        outlier: sum of the group's codes on a token, mean over the outlier tokens; None without outlier tokens.
        normal: the same over the normal tokens.
        outlier_share: the group's share of all codes on outlier tokens; None where there are no codes.
        normal_share: its share of all codes on normal tokens.
    """

    name: str
    kind: str
    features: int
    outlier: float | None
    normal: float | None
    outlier_share: float | None
    normal_share: float | None


@dataclass(frozen=True)
class Told:
    """How well a measure tells the features of outlier tokens from the others.

    Attributes:
        measure: the column of the run's table.
        auc: the chance that the measure is larger for one of them than for one of the others, ties counting half; None
            without either.
        features: how many of them have the measure.
        median: its median over them; None without any.
        others_median: its median over the others.
    """

    measure: str
    auc: float | None
    features: int
    median: float | None
    others_median: float | None

    @property
    def label(self) -> str:
        """What people call the measure."""
        return SCOPE[self.measure].label if self.measure in SCOPE else self.measure


@dataclass(frozen=True)
class OutlierFeatures:
    """The features of outlier tokens: those with more than half of their activation on them.

    Attributes:
        features: their numbers, ascending.
        classes: how many of them each scope class has.
        told: how well the measures of the run tell them from the others.
    """

    features: list[int]
    classes: dict[str, int]
    told: list[Told]


@dataclass(frozen=True)
class Groups:
    """Feature groups on outlier tokens and on normal ones.

    Attributes:
        groups: the groups.
        cds_rank_correlation: Spearman's correlation of CDS with the preference for outlier tokens; None if undefined.
        features: number of features that the correlation is over.
        on_outliers: the features of outlier tokens; None in older records, and without outlier tokens.
    """

    groups: list[GroupActivation]
    cds_rank_correlation: float | None
    features: int
    on_outliers: OutlierFeatures | None = None


@dataclass(frozen=True)
class OutlierRecord:
    """All of ``outliers.json``. The class of each entry documents it; timings are in seconds, by stage."""

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
