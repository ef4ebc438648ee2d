"""From which norm on a token is an outlier, and whether a block has outlier tokens at all (method, section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32, Float64

from infoscope.analyses.outliers.config import Cutoff
from infoscope.scope.modes import estimate_density

DEVIATIONS = 3.0
PERCENTILE = 98.0
# Our choices (method, section 6): outlier tokens are present where this share of tokens is so many times the median.
PRESENT_SHARE = 1e-4
LONG = 3.0


@dataclass(frozen=True)
class BlockNorms:
    """The norms of a block's patch tokens, in numbers.

    Attributes:
        tokens: how many there are.
        mean: their mean norm.
        deviation: standard deviation of the norms.
        median: their median.
        longest: the largest.
        long_share: share of the tokens above 3 times the median.
        thresholds: the norm above which a token is an outlier, by cutoff; None where there is no such norm: no valley,
            no fixed value given.
        shares: share of the tokens above it, by cutoff; None where the threshold is.
    """

    tokens: int
    mean: float
    deviation: float
    median: float
    longest: float
    long_share: float
    thresholds: Mapping[Cutoff, float | None]
    shares: Mapping[Cutoff, float | None]

    @property
    def present(self) -> bool:
        """Whether there are outlier tokens: at least 1e-4 of the tokens exceed 3 times the median norm.

        Every model has tokens above mean + 3 std; elsewhere they are the tail of one distribution.
        """
        return self.long_share >= PRESENT_SHARE

    @property
    def reach(self) -> float:
        """The longest token's norm over the median."""
        return self.longest / self.median if self.median > 0 else float("inf" if self.longest > 0 else "nan")


def describe_norms(norms: Float32[np.ndarray, " token"], fixed: float | None = None) -> BlockNorms:
    """The cutoffs and the presence rule for one block.

    Args:
        norms: norms of all patch tokens of a sample at that block, ``[token]``, at least one, finite.
        fixed: the fixed cutoff, if any.

    Example:
        >>> norms = np.float32([1.0] * 97 + [2.0, 2.0, 10.0])
        >>> found = describe_norms(norms, fixed=5.0)
        >>> found.median, found.long_share, found.present
        (1.0, 0.01, True)
        >>> {name: round(value, 2) for name, value in found.thresholds.items() if value is not None}
        {'std': 3.82, 'value': 5.0, 'percentile': 2.0}
        >>> found.shares["std"], found.shares["percentile"]
        (0.01, 0.01)
    """
    exact = norms.astype(np.float64)
    mean, deviation, median = float(exact.mean()), float(exact.std()), float(np.median(exact))
    thresholds: dict[Cutoff, float | None] = {
        "std": mean + DEVIATIONS * deviation,
        "value": fixed,
        "percentile": float(np.percentile(exact, PERCENTILE)),
        "valley": norm_valley(norms),
    }
    return BlockNorms(
        tokens=len(norms),
        mean=mean,
        deviation=deviation,
        median=median,
        longest=float(exact.max()),
        long_share=float((exact > LONG * median).mean()),
        thresholds=MappingProxyType(thresholds),
        shares=MappingProxyType(
            {name: None if value is None else float((exact > value).mean()) for name, value in thresholds.items()}
        ),
    )


def norm_valley(norms: Float32[np.ndarray, " token"]) -> float | None:
    """The norm where the density is lowest between its highest mode and its uppermost one; None where that is one mode.

    The density is that of the norm's logarithm: outlier tokens are several times as long as others and spread as many
    times as widely, so that on the plain scale a bandwidth that fits the others leaves each of them a mode of its own.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> body, outliers = rng.lognormal(0.0, 0.1, 5000), rng.lognormal(2.0, 0.2, 100)
        >>> 1.5 < norm_valley(np.concatenate([body, outliers]).astype(np.float32)) < 4.5
        True
        >>> norm_valley(body.astype(np.float32)) is None
        True
    """
    logarithms: Float64[np.ndarray, " token"] = np.log(norms[norms > 0].astype(np.float64))
    if len(logarithms) < 2:
        return None
    # Away from 0, where the estimate is mirrored: the shortest token is no edge.
    start = float(logarithms.min()) - 1.0
    density = estimate_density(logarithms - start)
    modes = density.modes()
    main = int(modes[np.argmax(density.value[modes])])
    upper = int(modes[-1])
    if upper == main:
        return None
    between = density.value[main : upper + 1]
    # Where the density is 0 in several stretches, the middle of the longest.
    lowest = np.flatnonzero(between == between.min())
    stretches = np.split(lowest, np.flatnonzero(np.diff(lowest) > 1) + 1)
    longest = max(stretches, key=len)
    return float(np.exp(density.x[main + longest].mean() + start))
