"""What a measurement depends on, with the defaults and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infoscope.errors import InfoscopeError, check_choice
from infoscope.images.resize import Resize
from infoscope.scope.metric import Metric

RankBy = Literal["max", "mean", "sum"]
RankView = Literal["full", "crops"]
EmptyPairs = Literal["leave-out", "one"]


@dataclass(frozen=True)
class MeasureConfig:
    """The options of a measurement; the same options on the same inputs give the same table.

    Raises:
        InfoscopeError: a number is out of range, or a choice is none of those there are.

    Example:
        >>> MeasureConfig(top_images=16).least_pairs
        8
    """

    top_images: int = 16
    """k: how many of a feature's strongest images its score is the mean over. Our choice."""
    shift: int = 2
    """s: patches between the two crops. 2 takes 256 pixels to 224 for patches of 16. Our choice."""
    rank_by: RankBy = "max"
    """An image's score for the ranking: the max, mean or sum of the feature's codes over patch tokens."""
    rank_view: RankView = "full"
    """Rank on the full view, or on the crops themselves: one pass fewer, the larger of the two crops counts."""
    resize: Resize = "stretch"
    """How an image becomes square: stretch ignores the aspect ratio, crop takes the centre."""
    min_pairs: int | None = None
    """Fewest valid pairs a score is given for. Default: half of top_images, rounded up."""
    empty_as: EmptyPairs = "leave-out"
    """A pair with exactly one empty map: left out of the mean, or counted as distance one."""
    ground_distance: Metric = "euclidean"
    """Distance between patch centres, in patches."""
    floor: float = 0.0
    """Codes under this share of a map's maximum count as 0. For dictionaries whose codes are hardly ever 0."""
    seed: int = 0
    """Seed of the bootstrap intervals, the only random draw of a measurement."""

    def __post_init__(self) -> None:
        check_choice("rank_by", self.rank_by, RankBy)
        check_choice("rank_view", self.rank_view, RankView)
        check_choice("resize", self.resize, Resize)
        check_choice("empty_as", self.empty_as, EmptyPairs)
        check_choice("ground_distance", self.ground_distance, Metric)
        if not 0.0 <= self.floor < 1.0:
            raise InfoscopeError(f"--floor {self.floor} is out of range: choose 0 or more, and less than 1")
        if self.seed < 0:
            raise InfoscopeError(f"--seed {self.seed} is out of range: choose 0 or more")
        if not 1 <= self.top_images <= 65535:
            raise InfoscopeError(f"--top-images {self.top_images} is out of range: choose 1 to 65535")
        if self.min_pairs is not None and not 1 <= self.min_pairs <= self.top_images:
            raise InfoscopeError(
                f"--min-pairs {self.min_pairs} is out of range: choose 1 to --top-images, {self.top_images}"
            )

    @property
    def least_pairs(self) -> int:
        """``min_pairs``, with its default: no score when fewer than half of k pairs are left (method, section 3)."""
        return self.min_pairs if self.min_pairs is not None else (self.top_images + 1) // 2
