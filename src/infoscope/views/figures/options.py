"""What a figure shows, each option with the reason for its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from infoscope.runtime.typed import Positive, Range, check_fields

By = Literal["class", "side"]


@dataclass(frozen=True)
class FigureOptions:
    """How a figure is drawn.

    Raises:
        InfoscopeError: a choice is none of those there are, or a number is out of range.

    Example:
        >>> FigureOptions(width=40.0)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --width 40.0 is out of range: choose 2 to 14 inches
    """

    # Labels no longer fit a narrower figure, and no page a wider one.
    width: Annotated[float, Range(2, 14, unit="inches")] = 3.25
    """Inches. 3.25 is a column of most two-column papers, 6.75 both."""
    by: By = "class"
    """histogram: colour the bars by scope class, or by side of the threshold."""
    x: str = "cds"
    """scatter: the column to the right, any number of scope.parquet, the cross-checks or the outlier tokens."""
    y: str = "effective_area"
    """scatter: the column upwards."""
    features: tuple[int, ...] = ()
    """gallery: the features. Default: of each class those of the highest trust."""
    each: Positive = 2
    """gallery: features of each class, where none are named."""
    pairs: Positive | None = None
    """gallery: top images of a feature, two crops each. Default: as many as fit at 0.8 inches a crop."""
    results: tuple[str, ...] = ()
    """removal: which results, as folders of the run: probes/NAME, selections/NAME, zeroshot. Default: all of them."""

    def __post_init__(self) -> None:
        check_fields(self)
