"""What a figure shows, each option with the reason for its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infoscope.errors import InfoscopeError, check_choice, check_counts

Kind = Literal["histogram", "scatter", "gallery", "shift", "removal"]
By = Literal["class", "side"]
# Inches. Below, labels no longer fit; above, no page does.
NARROWEST, WIDEST = 2.0, 14.0


@dataclass(frozen=True)
class FigureOptions:
    """How a figure is drawn.

    Raises:
        InfoscopeError: a choice is none of those there are, or a number is out of range.

    Example:
        >>> FigureOptions(width=40.0)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --width 40 is out of range: choose 2 to 14 inches
    """

    width: float = 3.25
    """Inches. 3.25 is a column of most two-column papers, 6.75 both."""
    by: By = "class"
    """histogram: colour the bars by scope class, or by side of the threshold."""
    x: str = "cds"
    """scatter: the column to the right, any number of scope.parquet, the cross-checks or the outlier tokens."""
    y: str = "effective_area"
    """scatter: the column upwards."""
    features: tuple[int, ...] = ()
    """gallery: the features. Default: of each class those of the highest trust."""
    each: int = 2
    """gallery: features of each class, where none are named."""
    pairs: int | None = None
    """gallery: top images of a feature, two crops each. Default: as many as fit at 0.8 inches a crop."""
    results: tuple[str, ...] = ()
    """removal: which results, as folders of the run: probes/NAME, selections/NAME, zeroshot. Default: all of them."""

    def __post_init__(self) -> None:
        check_choice("by", self.by, By)
        check_counts(each=self.each, pairs=self.pairs)
        if not NARROWEST <= self.width <= WIDEST:
            raise InfoscopeError(f"--width {self.width:g} is out of range: choose {NARROWEST:g} to {WIDEST:g} inches")
