"""The options of a selection, each with the reason for its default."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from infoscope.errors import InfoscopeError, either
from infoscope.options import Match
from infoscope.runtime.typed import Count, check_fields

End = Literal["top", "bottom"]
"""Whether features are removed from the highest value of the column down, or from the lowest up."""


@dataclass(frozen=True)
class SelectConfig:
    """Which sets of features are tried.

    Raises:
        InfoscopeError: an end or a match is not one of those offered, shares are not ascending within 0 to 1, or a
            number is out of range.

    Example:
        >>> SelectConfig(shares=(0.5, 0.2))
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --shares 0.5 0.2: give shares above 0 and at most 1, ascending
    """

    column: str = "cds"
    """The column of scope.parquet that features are ordered by. Those for which it is not known are never removed."""
    ends: tuple[End, ...] = ("top", "bottom")
    """Remove from the highest values down (top), from the lowest up (bottom), or try both."""
    shares: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
    """Shares of the ordered features that are removed. Our choice: fine where little is lost, coarse where all is."""
    match: tuple[Match, ...] = ("size", "mass")
    """Random removal beside each step: of as many features, of as much activation mass, or both."""
    random_draws: Count = 2
    """Random groups to a step and match. 0 for none. Our choice: there are many steps, and a curve shows its noise."""
    seed: Count = 0
    """Seed of the random groups."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.ends or len(set(self.ends)) < len(self.ends):
            raise InfoscopeError(f"--ends: name {either(get_args(End))}, or both, each once")
        ascending = all(low < high for low, high in pairwise(self.shares))
        if not self.shares or not ascending or not self.shares[0] > 0 or not self.shares[-1] <= 1:
            given = " ".join(f"{share:g}" for share in self.shares)
            raise InfoscopeError(f"--shares {given}: give shares above 0 and at most 1, ascending")
