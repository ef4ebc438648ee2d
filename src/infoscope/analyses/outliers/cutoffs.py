"""The norm above which a token is an outlier, and whether a block has outlier tokens at all (method, section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32, Float64

from infoscope.analyses.outliers.record import Presence
from infoscope.options import Cutoff
from infoscope.scope.modes import estimate_density

DEVIATIONS = 3.0
PERCENTILE = 98.0
# Our choices (method, section 6): outlier tokens are present where at least this share of the tokens is longer than
# this many times the median.
PRESENT_SHARE = 1e-4
LONG = 3.0


@dataclass(frozen=True)
class BlockNorms:
    """Statistics of the norms of a block's patch tokens.

    Attributes:
        tokens: number of tokens.
        mean: mean norm.
        deviation: standard deviation of the norms.
        median: median norm.
        longest: largest norm.
        long_share: share of the tokens above 3 times the median.
        thresholds: the norm above which a token is an outlier, by cutoff; None where there is no valley, or where no
            fixed value was given.
        shares: share of the tokens above the threshold, by cutoff; None where the threshold is None.
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

        Every model has tokens above mean + 3 std; without outlier tokens they are the tail of one distribution.
        """
        return self.long_share >= PRESENT_SHARE

    @property
    def reach(self) -> float:
        """The longest token's norm over the median."""
        return self.longest / self.median if self.median > 0 else float("inf" if self.longest > 0 else "nan")

    def cutoff(self, wanted: Cutoff) -> tuple[Cutoff, float]:
        """The cutoff to use and its norm: the one wanted or, where that has no norm, mean + 3 std."""
        threshold = self.thresholds[wanted]
        return ("std", self.mean + DEVIATIONS * self.deviation) if threshold is None else (wanted, threshold)


def describe_norms(norms: Float32[np.ndarray, " token"], fixed: float | None = None) -> BlockNorms:
    """The statistics of one block, with its cutoffs.

    Args:
        norms: norms of all patch tokens of a sample at that block, ``[token]``; at least one, all finite.
        fixed: the fixed cutoff, if there is one.

    Example:
        >>> norms = np.float32([1.0] * 97 + [2.0, 2.0, 10.0])
        >>> block = describe_norms(norms, fixed=5.0)
        >>> block.median, block.long_share, block.present
        (1.0, 0.01, True)
        >>> {name: round(value, 2) for name, value in block.thresholds.items() if value is not None}
        {'std': 3.82, 'value': 5.0, 'percentile': 2.0}
        >>> block.shares["std"], block.shares["percentile"]
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
    """The norm at which the density is lowest between its highest mode and its last one; None where these are the same.

    The density is that of the norm's logarithm. Outlier tokens are several times as long as the others, and their norms
    spread as many times as widely, so that on a linear scale a bandwidth that suits the others would make a mode of
    each single outlier.

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
    # Shifted away from 0, where the estimate is mirrored, since the shortest token is not an edge of the distribution.
    start = float(logarithms.min()) - 1.0
    density = estimate_density(logarithms - start)
    modes = density.modes()
    highest = int(modes[np.argmax(density.value[modes])])
    last = int(modes[-1])
    if last == highest:
        return None
    between = density.value[highest : last + 1]
    # Where the density is 0 over several stretches, the middle of the longest one.
    lowest = np.flatnonzero(between == between.min())
    stretches = np.split(lowest, np.flatnonzero(np.diff(lowest) > 1) + 1)
    longest = max(stretches, key=len)
    return float(np.exp(density.x[highest + longest].mean() + start))


def judge_presence(blocks: list[BlockNorms], block: int) -> Presence:
    """Whether a model has outlier tokens, and whether it has them at one block.

    Args:
        blocks: the norms of every block, in order.
        block: the block that the analyses are about.

    Example:
        >>> print(judge_presence([describe_norms(np.linspace(1, 2, 20000, dtype=np.float32))], 0).sentence)
        No outlier tokens: at no block are 1 in 10,000 patch tokens longer than 3 times the median norm (the longest
        token, at block 0, has 1.3 times). What is above the cutoff is the tail of one distribution.
    """
    present = [number for number, norms in enumerate(blocks) if norms.present]
    here = blocks[block]
    farthest = max(range(len(blocks)), key=lambda number: blocks[number].reach)
    rule = f"1 in {round(1 / PRESENT_SHARE):,} patch tokens longer than {LONG:g} times the median norm"
    tail = "What is above the cutoff is the tail of one distribution."
    if here.present:
        sentence = (
            f"Outlier tokens at {_named(present)}: at block {block}, {here.long_share:.2%} of the patch tokens are "
            f"longer than {LONG:g} times the median norm, the longest {here.reach:.1f} times."
        )
    elif present:
        sentence = (
            f"Outlier tokens at {_named(present)}, but none at block {block}: there not {rule} "
            f"(the longest has {here.reach:.1f} times). {tail}"
        )
    else:
        sentence = (
            f"No outlier tokens: at no block are {rule} "
            f"(the longest token, at block {farthest}, has {blocks[farthest].reach:.1f} times). {tail}"
        )
    return Presence(
        kind="outlier" if here.present else "tail",
        blocks=present,
        long_share=here.long_share,
        reach=here.reach,
        farthest_block=farthest,
        farthest_reach=blocks[farthest].reach,
        sentence=sentence,
    )


def _named(blocks: list[int]) -> str:
    """Blocks in words: ``block 3``, ``blocks 5 to 7 and 9``.

    Example:
        >>> _named([3]), _named([5, 6, 7, 9]), _named([0, 1])
        ('block 3', 'blocks 5 to 7 and 9', 'blocks 0 to 1')
    """
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return ("block " if len(blocks) == 1 else "blocks ") + " and ".join(
        [", ".join(words[:-1]), words[-1]] if len(words) > 1 else words
    )
