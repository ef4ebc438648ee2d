"""What an analysis of outlier tokens depends on, with the defaults and where they come from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from infoscope.errors import InfoscopeError
from infoscope.options import Cutoff, Resize
from infoscope.runtime.typed import Count, Positive, Range, check_fields


@dataclass(frozen=True)
class OutlierConfig:
    """The options of an analysis of outlier tokens.

    Raises:
        InfoscopeError: a number is out of range, a choice is none of those there are, or ``cutoff`` is ``value`` and
            there is none.

    Example:
        >>> OutlierConfig(cutoff="value")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --cutoff value needs a norm: give --cutoff-value
    """

    sample_images: Positive = 1000
    """Images that are read, spread evenly over the source. Bounds memory: every norm of them is kept."""
    cutoff: Cutoff = "std"
    """What the analyses call an outlier: a norm above mean + 3 standard deviations (std), --cutoff-value (value), the
    98th percentile (percentile), or the valley of the norms' density (valley). All are reported, whichever is taken."""
    cutoff_value: Annotated[float, Range(above=0, below=math.inf)] | None = None
    """A fixed norm, reported beside the others. Published ones are in docs/outliers.md."""
    shift: Count | None = None
    """Patches between the two crops. Default: the run's, else 2."""
    resize: Resize | None = None
    """How an image becomes square: stretch ignores the aspect ratio, crop takes the centre. Default: the run's, else
    stretch."""
    probe_tokens: Count = 4000
    """Most tokens of a kind that a probe is trained and tested on. 0 leaves the probes out."""
    seed: Count = 0
    """Seed of what is drawn: comparison masks, and the tokens of the probes."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.cutoff == "value" and self.cutoff_value is None:
            raise InfoscopeError("--cutoff value needs a norm: give --cutoff-value")
