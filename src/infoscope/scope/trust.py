"""How far to believe a feature's class and score, from 0 to 1, and what lowers it (docs/controls.md).

Trust is the product of five factors, each of which is 1 where it gives no reason for doubt. It is a rule of thumb that
orders features for a reader, not a probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from infoscope.scope.classes import Moves
from infoscope.scope.controls import FeatureControls
from infoscope.scope.geometry import Geometry
from infoscope.scope.score import RETAINED, FeatureScores


@dataclass(frozen=True)
class TrustRules:
    """The constants of the factors; docs/defaults.md argues them."""

    fvu_good: float = 0.25
    """Fraction of variance unexplained up to which the fit lowers nothing."""
    fvu_bad: float = 0.75
    """From here on the fit lowers trust to 0; in between, in proportion."""
    retention: float = RETAINED
    """Mean retention from which retention lowers nothing; below, in proportion."""
    disagreement: float = 0.5
    """The factor of a score that lies outside its interval over the pairs that keep their peak."""
    unknown: float = 0.5
    """The factor of anything that is not known."""
    named: float = 0.95
    """Factors below this are given as reasons."""


@dataclass(frozen=True)
class Trust:
    """How far to believe each feature's class, 0 to 1, and why; ``[feature]`` each."""

    value: Float64[np.ndarray, " feature"]
    reasons: list[str]


def judge_trust(
    names: Sequence[str],
    scores: FeatureScores,
    controls: FeatureControls,
    moves: Moves,
    geometry: Geometry,
    top_images: int,
    fvu: float | None,
    reliability: float,
    rules: TrustRules | None = None,
) -> Trust:
    """Multiply the factors of each feature's trust.

    The factors:

    - fit: 1 up to an FVU of 0.25, falling to 0 at 0.75.
    - pairs: share of the k images whose pair counts: a valid pair or, where the class comes from the full grid, a
      judged one (`Moves.judged`).
    - retention: mean retention over 0.5, at most 1, and half of that where ``retained_disagrees``. It is 1 where the
      class comes from the full grid.
    - reliability: the run's split-half reliability, Spearman's, 0 to 1.
    - interval: 1 less half the interval's width over the mean distance of unrelated single patches. It is 1 for a
      position-bound feature without an interval.

    The class of position-bound features comes from the full grid, as does that of features without a CDS. A factor that
    is not known is 0.5. Undefined features have a trust of 0. Fit and reliability are the run's, so they do not affect
    the order of its features.

    Args:
        names: the class of each feature.
        scores: of every feature.
        controls: of every feature.
        moves: how its pairs moved.
        geometry: the grid and the shift.
        top_images: k.
        fvu: fraction of variance the SAE leaves unexplained; None where not known.
        reliability: split-half reliability of the run; NaN where not known.
        rules: the constants.
    """
    rules = rules or TrustRules()
    position_bound = np.array([name == "position-bound" for name in names])
    undefined = np.array([name == "undefined" for name in names])
    count = len(names)
    fit = rules.unknown if fvu is None else _between(rules.fvu_bad, rules.fvu_good, fvu)
    repeats = rules.unknown if math.isnan(reliability) else min(max(reliability, 0.0), 1.0)
    from_full_grid = position_bound | np.isnan(scores.cds)
    counted = np.where(from_full_grid, moves.judged, scores.pairs)
    disagrees = controls.retained_disagrees == 1.0
    retention = np.clip(scores.retention / rules.retention, 0.0, 1.0)
    retained = np.where(np.isnan(retention), rules.unknown, retention)
    half_width = 0.5 * (scores.cds_ci_upper - scores.cds_ci_lower)
    narrow = np.clip(1.0 - half_width / geometry.unrelated, 0.0, 1.0)
    factors = {
        "fit": np.full(count, fit),
        "pairs": np.clip(counted / top_images, 0.0, 1.0),
        "retention": np.where(from_full_grid, 1.0, retained * np.where(disagrees, rules.disagreement, 1.0)),
        "reliability": np.full(count, repeats),
        "interval": np.where(np.isnan(narrow), np.where(position_bound, 1.0, rules.unknown), narrow),
    }
    value = np.where(undefined, 0.0, np.prod(np.stack(list(factors.values())), axis=0))
    of_run = {
        "fit": "FVU not known" if fvu is None else f"FVU {fvu:.2f}",
        "reliability": "not known" if math.isnan(reliability) else "between halves of the top images",
    }
    reasons = []
    for feature in range(count):
        if undefined[feature]:
            reasons.append("no class")
            continue
        because = of_run | {
            "pairs": f"{int(counted[feature])} of {top_images}",
            "retention": (
                (
                    "not known"
                    if np.isnan(scores.retention[feature])
                    else f"{scores.retention[feature]:.2f} of the peak kept"
                )
                + (", and without the pairs that lose it the score is another" if disagrees[feature] else "")
            ),
            "interval": ("not known" if np.isnan(half_width[feature]) else f"plus or minus {half_width[feature]:.3f}"),
        }
        low = sorted((factor[feature], name) for name, factor in factors.items() if factor[feature] < rules.named)
        reasons.append(
            "; ".join(f"{name} {factor:.2f} ({because[name]})" for factor, name in low) or "nothing lowers it"
        )
    return Trust(value, reasons)


def _between(zero: float, one: float, at: float) -> float:
    """Linear from 0 at ``zero`` to 1 at ``one``, and constant beyond either."""
    return min(max((at - zero) / (one - zero), 0.0), 1.0)
