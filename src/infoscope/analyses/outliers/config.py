"""What an analysis of outlier tokens depends on, with the defaults and where they come from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from infoscope.errors import InfoscopeError, check_choice
from infoscope.runtime.choices import Resize

Cutoff = Literal["std", "value", "percentile", "valley"]


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

    sample_images: int = 1000
    """Images that are read, spread evenly over the source. Bounds memory: every norm of them is kept."""
    cutoff: Cutoff = "std"
    """What the analyses call an outlier: a norm above mean + 3 standard deviations (std), --cutoff-value (value), the
    98th percentile (percentile), or the valley of the norms' density (valley). All are reported, whichever is taken."""
    cutoff_value: float | None = None
    """A fixed norm, reported beside the others. Published ones are in docs/outliers.md."""
    shift: int | None = None
    """Patches between the two crops. Default: the run's, else 2."""
    resize: Resize | None = None
    """How an image becomes square: stretch ignores the aspect ratio, crop takes the centre. Default: the run's, else
    stretch."""
    probe_tokens: int = 4000
    """Most tokens of a kind that a probe is trained and tested on."""
    seed: int = 0
    """Seed of what is drawn: comparison masks, and the tokens of the probes."""

    def __post_init__(self) -> None:
        check_choice("cutoff", self.cutoff, Cutoff)
        if self.resize is not None:
            check_choice("resize", self.resize, Resize)
        for flag, number, least in (
            ("--sample-images", self.sample_images, 1),
            ("--probe-tokens", self.probe_tokens, 1),
            ("--seed", self.seed, 0),
            ("--shift", self.shift, 0),
        ):
            if number is not None and number < least:
                raise InfoscopeError(f"{flag} {number} is out of range: choose {least} or more")
        if self.cutoff_value is not None and not (self.cutoff_value > 0 and math.isfinite(self.cutoff_value)):
            raise InfoscopeError(f"--cutoff-value {self.cutoff_value} is no norm: choose a number above 0")
        if self.cutoff == "value" and self.cutoff_value is None:
            raise InfoscopeError("--cutoff value needs a norm: give --cutoff-value")
