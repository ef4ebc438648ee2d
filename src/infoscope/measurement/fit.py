"""The fit check: does this SAE describe this model's tokens on these images?"""

from __future__ import annotations

import math

import numpy as np

from infoscope.measurement.passes import Ranked
from infoscope.storage.manifest import FitRecord

# Our choice: 65,536 tokens of a 16 x 16 grid fix an FVU to the third digit, at well under 1 % of a pass's cost.
SAMPLE_IMAGES = 256


def fit_sample(count: int) -> frozenset[int]:
    """The images the FVU is taken on: all, or `SAMPLE_IMAGES` spread evenly over the source.

    Example:
        >>> len(fit_sample(100)), len(fit_sample(3000)), max(fit_sample(3000))
        (100, 256, 2999)
    """
    return frozenset(np.linspace(0, count - 1, min(count, SAMPLE_IMAGES)).round().astype(int).tolist())


def fit_record(ranked: Ranked) -> FitRecord:
    """FVU on the sample; L0 and dead share on the whole pool."""
    _, tokens = ranked.ranking.seen
    return FitRecord(
        fvu=None if math.isnan(ranked.fvu.value) else ranked.fvu.value,
        l0=float(ranked.ranking.tokens_active.sum() / tokens),
        dead=float((ranked.ranking.tokens_active == 0).mean()),
        sample=ranked.fvu.tokens,
    )
