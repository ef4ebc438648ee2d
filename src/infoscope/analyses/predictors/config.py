"""The measures that are compared, and the options of a comparison, each with the reason for its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from infoscope.analyses.removal.config import DRAWS, SAMPLE_IMAGES, STEPS, check_steps
from infoscope.errors import InfoscopeError, either
from infoscope.options import Resize
from infoscope.runtime.typed import Count, Range, check_fields

MEASURES = (
    "cds",
    "cds_calibrated",
    "cosine_distance",
    "jensen_shannon",
    "effective_area",
    "entropy",
    "moran",
    "peak_displacement",
    "density",
)
"""Columns of ``scope.parquet``."""
# CDS over its null: made of CDS, so that it explains it by definition, and is not among what CDS is held against.
MADE_OF_CDS = "cds_calibrated"
OTHERS = tuple(name for name in MEASURES if name not in ("cds", MADE_OF_CDS))
COSINE = "cosine_distance"
BEYOND_COSINE = "cds_beyond_cosine"
"""The rank of CDS less what the rank of 1 - cosine says of it: how much more the map moves than it changes."""
GROUPINGS = (*MEASURES, BEYOND_COSINE)
"""All that features can be grouped by."""


@dataclass(frozen=True)
class PredictorConfig:
    """Which measures features are grouped by, and how the groups are removed.

    Raises:
        InfoscopeError: a measure is not known or given twice, steps are not ascending within 0 to 1, or a number is out
            of range.

    Example:
        >>> PredictorConfig(group_by=("cds", "size"))
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --group-by size: choose cds, cds_calibrated, cosine_distance, jensen_shannon,
        effective_area, entropy, moran, peak_displacement, density or cds_beyond_cosine
    """

    group_by: tuple[str, ...] = (
        "cds",
        "cds_calibrated",
        "cosine_distance",
        "effective_area",
        "density",
        BEYOND_COSINE,
    )
    """The measures whose quantile groups are removed. Our choice: the score and its calibrated form, the nearest
    simpler measure, breadth, frequency, and what CDS says beyond the simpler measure, which alone can show that CDS
    adds something."""
    quantiles: Annotated[int, Range(2)] = 4
    """Groups to a measure, of equally many features. Our choice: with more, a group reaches fewer steps."""
    steps: tuple[float, ...] = STEPS
    """Removed energy of the sets that are compared, as shares of the tokens' mean square (method, section 7)."""
    draws: Annotated[int, Range(2)] = DRAWS
    """Sets to a step and side (method, section 7)."""
    resize: Resize | None = None
    """How an image becomes square: stretch ignores the aspect ratio, crop takes the centre. Default: the run's."""
    sample_images: Annotated[int, Range(2)] = SAMPLE_IMAGES
    """Training images from which the 10,000 tokens are that removed energy is measured on. As `infoscope probe`."""
    seed: Count = 0
    """Seed of the sets, and of what is held out to choose the head's strength."""

    def __post_init__(self) -> None:
        check_fields(self)
        wrong = [name for name in self.group_by if name not in GROUPINGS]
        if wrong:
            raise InfoscopeError(f"--group-by {wrong[0]}: choose {either(GROUPINGS)}")
        if not self.group_by or len(set(self.group_by)) < len(self.group_by):
            raise InfoscopeError("--group-by: name one measure or more, each once")
        check_steps(self.steps)
