"""The evidence for a feature's class and trust, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infoscope.scope.classes import SETTLED, Moves
from infoscope.scope.controls import FeatureControls
from infoscope.scope.displacement import FeatureDisplacement
from infoscope.scope.geometry import Geometry
from infoscope.scope.posterior import Posterior
from infoscope.scope.score import FeatureScores

# Our choice: what is rarer than this changes no reader's mind.
_NAMED = 0.05
# Our choice: a feature's class is said to rest on few pairs below this share of k.
_FEW = 0.75
# Our choice: below even odds the class is more likely not to come out again, which a reader would not expect.
_EVEN = 0.5
# Above it the SAE misses more than a quarter of the variance, as in the fit check.
_LOOSE_FVU = 0.25


def evidence_lines(
    names: Sequence[str],
    found: FeatureDisplacement,
    scores: FeatureScores,
    controls: FeatureControls,
    geometry: Geometry,
    min_pairs: int,
) -> list[str]:
    """What speaks for the class of each feature: how its pairs moved, and how much of the mass was displaced.

    Args:
        names: the class of each feature.
        found: the displaced shares, and how the pairs moved by them.
        scores: of every feature.
        controls: of every feature.
        geometry: the grid and the shift.
        min_pairs: fewest judged pairs of a feature with a class.
    """
    if geometry.shift == 0:
        return ["no shift, so no map can move"] * len(names)
    lines, moves = [], found.moves
    for feature, name in enumerate(names):
        pairs = int(moves.judged[feature])
        no_cds = f"no CDS, for {int(scores.pairs[feature])} pairs are valid, fewer than {min_pairs}"
        if name == "undefined":
            few = f"{pairs} images tell whether the map moved, fewer than {min_pairs}"
            lines.append(few if pairs < min_pairs else "; ".join([no_cds, *_moved(moves, feature)]))
            continue
        clauses = _moved(moves, feature)
        if scores.pairs[feature] < min_pairs:
            clauses.append(no_cds)
        if not np.isnan(found.displaced[feature]):
            clauses.append(
                f"{found.displaced[feature]:.0%} of the mass is displaced, where unrelated pictures give "
                f"{found.displaced_null[feature]:.0%} and code noise {_noise(found, feature)}"
            )
        if not np.isnan(found.displacement[feature]):
            clauses.append(f"displacement {found.displacement[feature]:.2f} ± {found.displacement_error[feature]:.2f}")
        if not np.isnan(found.displacement_following[feature]):
            clauses.append(
                f"of the pairs that follow {found.displacement_following[feature]:.2f} ± "
                f"{found.displacement_following_error[feature]:.2f}"
            )
        if found.noise_jumps[feature] >= _NAMED:
            clauses.append(f"noise alone makes {found.noise_jumps[feature]:.0%} of pairs jump")
        if not np.isnan(controls.cds_excess[feature]):
            clauses.append(f"CDS {scores.cds[feature]:.3f}, {controls.cds_excess[feature]:+.3f} against code noise")
        if not np.isnan(scores.mass_ratio[feature]):
            clauses.append(f"the weaker map has {scores.mass_ratio[feature]:.0%} of the stronger one's mass")
        lines.append("; ".join(clauses))
    return lines


def _moved(moves: Moves, feature: int) -> list[str]:
    """How a feature's pairs moved, and how many of those that jump have vanished."""
    clauses = moves.clauses(feature)
    if moves.vanished[feature] > 0:
        vanished = round(moves.vanished[feature] * int(moves.judged[feature]))
        clauses[-1] += f", {vanished} of them by vanishing from one crop"
    return clauses


def _noise(found: FeatureDisplacement, feature: int) -> str:
    share = found.displaced_noise[feature]
    if np.isnan(share):
        return "leaves no mass to compare"
    return f"{share:.0%}" if share > 0 else "was not measured or gives none"


def trust_reasons(
    posterior: Posterior, found: FeatureDisplacement, scores: FeatureScores, top_images: int, fvu: float | None
) -> list[str]:
    """What the trust of each feature, or its lack, comes from.

    Args:
        posterior: of the classes.
        found: the displaced shares.
        scores: of every feature.
        top_images: k.
        fvu: fraction of variance that the SAE leaves unexplained; None where not known.
    """
    of_run = [] if fvu is None or fvu <= _LOOSE_FVU else [f"the SAE leaves {fvu:.0%} of the variance unexplained"]
    reasons, hidden = [], found.hidden
    for feature, name in enumerate(posterior.names):
        chances = posterior.chances[feature]
        if name == "undefined" and not np.nanmax(chances, initial=0.0) >= _NAMED:
            reasons.append("no class")
            continue
        order = [place for place in np.argsort(-np.nan_to_num(chances), kind="stable") if chances[place] >= _NAMED]
        likely = ", ".join(f"{SETTLED[place]} {chances[place]:.2f}" for place in order)
        clauses = [f"posterior: {likely}" if likely else "posterior: no class is likely"]
        if np.isnan(found.displaced_null[feature]):
            clauses.append("too few pairs are valid to say how much is displaced")
        elif np.isnan(found.displaced_noise[feature]):
            clauses.append("code noise leaves no mass to compare")
        elif hidden[feature]:
            clauses.append("code noise displaces about as much as unrelated pictures do")
        if posterior.again[feature] < _EVEN:
            clauses.append("yet most other samples of images would not give this class")
        if scores.pairs[feature] < _FEW * top_images:
            clauses.append(f"{int(scores.pairs[feature])} of {top_images} pairs are valid")
        reasons.append("; ".join(clauses + of_run))
    return reasons
