"""What a measurement depends on, with the defaults and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from infoscope.errors import InfoscopeError
from infoscope.options import EmptyPairs, Metric, Reduction, Resize, Rules
from infoscope.runtime.typed import Count, Positive, Range, check_fields

RankView = Literal["full", "crops"]
MapActivation = Literal["codes", "pre"]
Control = Literal["none", "position-matched"]
Diagonal = Literal["one", "both"]


# Our choice: what is kept of a feature while images are ranked grows with it.
MOST_QUANTILE_IMAGES = 1024


@dataclass(frozen=True)
class MeasureConfig:
    """The options of a measurement; the same options on the same inputs give the same table.

    Raises:
        InfoscopeError: a number is out of range, or a choice is not one of those offered.

    Example:
        >>> MeasureConfig(top_images=16).least_pairs
        8
    """

    top_images: Annotated[int, Range(1, 65535)] = 16
    """k: how many of a feature's strongest images its score is the mean over. Our choice."""
    ranks: Annotated[int, Range(1, 65535)] | None = None
    """How many of a feature's strongest images are mapped. Those after the first k serve repeatability alone: the even
    and the odd ranks are two judgements without a common image, so that twice k gives two judgements by k images each.
    Default: k, and so two judgements by half of k. Our choice, because maps and distances take time."""
    shift: int = 2
    """s: patches between the two crops. 2 takes 256 pixels to 224 for patches of 16. Our choice."""
    shifts: tuple[int, ...] = ()
    """The shifts of a curve; ``shift`` is one of them in any case. Their crops are cut from one picture, resized for
    the largest. Default: no others."""
    rank_by: Reduction = "max"
    """An image's score for the ranking: the max, mean or sum of the feature's codes over patch tokens."""
    rank_view: RankView = "full"
    """Rank on the full view, or on the crops themselves: one pass fewer, the larger of the two crops counts."""
    resize: Resize = "stretch"
    """How an image becomes square: stretch ignores the aspect ratio, crop takes the centre."""
    min_pairs: Positive | None = None
    """Fewest valid pairs a score is given for. Default: half of top_images, rounded up."""
    empty_as: EmptyPairs = "leave-out"
    """A pair with exactly one empty map: left out of the mean, or counted as distance one."""
    ground_distance: Metric = "euclidean"
    """Distance between patch centres, in patches."""
    floor: Annotated[float, Range(0, below=1)] = 0.0
    """Codes under this share of a map's maximum count as 0. For dictionaries whose codes are hardly ever 0."""
    map_activation: MapActivation = "codes"
    """pre: a second score from the pre-activations above 0, of the same features and images: does the score owe its
    movement to the competition of codes?"""
    quantile_images: Annotated[int, Range(0, MOST_QUANTILE_IMAGES)] = 0
    """A second score from so many images spread over the quantiles of each feature's activation: do its strongest
    images speak for the others? 0: none."""
    control: Control = "none"
    """position-matched: a second score with the first crop's position embeddings on the overlap of both crops: what of
    the score is position, and what context?"""
    diagonal: Diagonal = "one"
    """both: a second score from the crops on the other diagonal, at (0, s) and (s, 0)."""
    rules: Rules = "posterior"
    """What classes and trust follow from: the posterior of each class in the light of all features, or the thresholds
    of earlier versions, the first of which holds."""
    noise_images: Count = 256
    """How many of the images have their first crop encoded twice more, once with pixel noise: by how much do codes
    change where only noise differs, and what would a local feature's score be for that alone? 0: not asked. Our choice:
    some 2 million codes of a 16 x 16 grid under TopK 32, enough for a curve of each chance."""
    seed: Count = 0
    """Seed of what a measurement draws at random: bootstrap intervals, the sample that quantiles come from, pixel
    noise, and the copies of maps that code noise is imitated with."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.ranks is not None and self.ranks < self.top_images:
            raise InfoscopeError(
                f"--ranks {self.ranks} is out of range: choose --top-images, {self.top_images}, or more"
            )
        if self.min_pairs is not None and self.min_pairs > self.top_images:
            raise InfoscopeError(
                f"--min-pairs {self.min_pairs} is out of range: choose 1 to --top-images, {self.top_images}"
            )

    @property
    def mapped_images(self) -> int:
        """``ranks``, with its default."""
        return self.top_images if self.ranks is None else self.ranks

    @property
    def least_pairs(self) -> int:
        """``min_pairs``, with its default: no score when fewer than half of k pairs are left (method, section 3)."""
        return self.min_pairs if self.min_pairs is not None else (self.top_images + 1) // 2

    @property
    def least_quantile_pairs(self) -> int:
        """Fewest valid pairs of a score on ``quantile_images``: half of them, rounded up, or ``min_pairs`` if less."""
        half = (self.quantile_images + 1) // 2
        return half if self.min_pairs is None else min(half, self.min_pairs)

    @property
    def curve(self) -> tuple[int, ...]:
        """All shifts, ascending.

        Example:
            >>> MeasureConfig(shifts=(4, 1)).curve, MeasureConfig().curve
            ((1, 2, 4), (2,))
        """
        return tuple(sorted({self.shift, *self.shifts}))
