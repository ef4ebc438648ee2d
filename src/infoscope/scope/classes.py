"""The scope classes, and how a feature's pairs moved, which they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt32

from infoscope.options import CLASSES as CLASSES
from infoscope.options import ScopeClass as ScopeClass

SETTLED: tuple[ScopeClass, ...] = ("local", "diffuse", "position-bound", "global", "mixed")
"""The classes that say what a feature is. *Unsettled*: its pairs do not tell. *Undefined*: too few of them
are valid."""


@dataclass(frozen=True)
class Moves:
    """How each feature's pairs moved, as shares of its judged pairs; every array is ``[feature]``, NaN without any.

    The first four shares add up to 1. What counts as following or staying is the rules' own:
    `infoscope.scope.displacement` or `infoscope.scope.threshold_rules`.

    Attributes:
        following: moved with the pixels.
        staying: stayed at their place in the crop. Where an overlap map is empty, the map is elsewhere in the crop.
        still: kept to both about equally, so that neither can be told from the other: most often too broad to move.
        jumping: the rest, including the pairs that vanish.
        away: pairs of any of these kinds that moved by more than 0.45 of the mean distance of two unrelated patches,
            against the pixels and against the crop. A pair with an empty overlap map counts as far from the pixels, and
            a pair that vanishes as far from both.
        vanished: mass on the overlap in one crop, and none anywhere in the other.
        judged: number of pairs whose movement can be judged: with mass in both full maps, or vanished.
    """

    following: Float64[np.ndarray, " feature"]
    staying: Float64[np.ndarray, " feature"]
    still: Float64[np.ndarray, " feature"]
    jumping: Float64[np.ndarray, " feature"]
    away: Float64[np.ndarray, " feature"]
    vanished: Float64[np.ndarray, " feature"]
    judged: UInt32[np.ndarray, " feature"]

    def clauses(self, feature: int) -> list[str]:
        """How many of a feature's pairs moved in each of the first four ways, in words; ways without a pair left out.

        Example:
            >>> one = [np.array([share]) for share in (0.75, 0.0, 0.01, 0.24, 0.0, 0.0)]
            >>> Moves(*one, judged=np.array([16], np.uint32)).clauses(0)
            ['12 of 16 pairs follow the pixels', '0 of 16 pairs keep to both alike', '4 of 16 pairs jump']
        """
        pairs = int(self.judged[feature])
        shares = {
            "follow the pixels": self.following[feature],
            "stay at their place in the crop": self.staying[feature],
            "keep to both alike": self.still[feature],
            "jump": self.jumping[feature],
        }
        # A share that rounds to 0 pairs is still named where it is above 0.
        return [f"{round(share * pairs)} of {pairs} pairs {what}" for what, share in shares.items() if share > 0]


@dataclass(frozen=True)
class Classes:
    """The class of every feature and the evidence for it, ``[feature]`` each."""

    names: list[ScopeClass]
    evidence: list[str]


def class_shares(names: Sequence[str]) -> dict[str, float]:
    """Share of all features in each class.

    Example:
        >>> shares = class_shares(["local", "global", "local", "undefined"])
        >>> {name: share for name, share in shares.items() if share}
        {'local': 0.5, 'global': 0.25, 'undefined': 0.25}
    """
    return {name: list(names).count(name) / max(len(names), 1) for name in CLASSES}
