"""The words for a class and its trust say what the numbers are."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from infoscope.scope.classes import SETTLED, Moves
from infoscope.scope.controls import FeatureControls
from infoscope.scope.displacement import FeatureDisplacement
from infoscope.scope.evidence import evidence_lines, trust_reasons
from infoscope.scope.geometry import Geometry
from infoscope.scope.posterior import Posterior
from infoscope.scope.score import FeatureScores

NAN = float("nan")


def one(value: float) -> np.ndarray:
    return np.array([value])


def scores_of(pairs: int = 8) -> FeatureScores:
    unknown = {field.name: one(NAN) for field in fields(FeatureScores)}
    return FeatureScores(**unknown | {"cds": one(0.1), "mass_ratio": one(0.7), "pairs": np.array([pairs], np.uint32)})


def controls_of(excess: float) -> FeatureControls:
    unknown = {field.name: one(NAN) for field in fields(FeatureControls)}
    lists = {name: np.full((1, 1), NAN) for name in ("cds_by_k", "cds_by_floor")}
    return FeatureControls(**unknown | lists | {"cds_excess": one(excess), "position_pairs": np.array([8], np.uint32)})


def found(displacement: float = 0.3, noise: float = 0.1, jumps: float = 0.0) -> FeatureDisplacement:
    moves = Moves(one(0.75), one(0.0), one(0.0), one(0.25), one(0.2), one(0.125), np.array([8], np.uint32))
    shares = (0.35, 0.8, 0.9, noise, displacement, 0.04, displacement - 0.1, 0.03, jumps)
    return FeatureDisplacement(*map(one, shares), moves)


def lines(
    displacement: FeatureDisplacement,
    name: str = "mixed",
    shift: int = 2,
    excess: float = 0.05,
    least: int = 4,
    valid: int = 8,
) -> str:
    geometry = Geometry(14, shift)
    return evidence_lines([name], displacement, scores_of(valid), controls_of(excess), geometry, least)[0]


def test_every_number_of_a_feature_is_named():
    assert lines(found()) == (
        "6 of 8 pairs follow the pixels; 2 of 8 pairs jump, 1 of them by vanishing from one crop; "
        "35% of the mass is displaced, where unrelated pictures give 90% and code noise 10%; "
        "displacement 0.30 ± 0.04; of the pairs that follow 0.20 ± 0.03; CDS 0.100, +0.050 against code noise; "
        "the weaker map has 70% of the stronger one's mass"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (lines(found(noise=0.0)), "code noise was not measured or gives none"),
        (lines(found(noise=NAN)), "code noise leaves no mass to compare"),
        (lines(found(jumps=0.12)), "noise alone makes 12% of pairs jump"),
        (lines(found(), shift=0), "no shift, so no map can move"),
        (lines(found(), "undefined", least=9), "8 images tell whether the map moved, fewer than 9"),
        (lines(found(), "undefined", valid=3), "no CDS, for 3 pairs are valid, fewer than 4; 6 of 8 pairs follow"),
    ],
)
def test_what_is_not_known_is_said(line, said):
    assert said in line


def test_nothing_is_said_of_what_noise_hides():
    assert "displacement" not in lines(found(NAN), excess=NAN)


def test_trust_says_where_noise_hides_what_follows():
    assert (
        "code noise displaces about as much"
        in trust_reasons(posterior("unsettled", 0.01), found(NAN, noise=0.8), scores_of(), 8, 0.1)[0]
    )


def posterior(name: str, *chances: float, again: float = 0.9) -> Posterior:
    return Posterior(np.array([[*chances, *[0.0] * (len(SETTLED) - len(chances))]]), [name], one(again))


@pytest.mark.parametrize(
    ("of", "pairs", "fvu", "wanted"),
    [
        (posterior("local", 0.95, 0.02), 8, 0.1, "posterior: local 0.95"),
        (posterior("unsettled", 0.5, 0.45), 8, None, "posterior: local 0.50, diffuse 0.45"),
        (posterior("undefined", NAN), 8, 0.4, "no class"),
        (posterior("unsettled", 0.01), 8, 0.1, "posterior: no class is likely"),
        (
            posterior("local", 0.95, again=0.4),
            8,
            None,
            "posterior: local 0.95; yet most other samples of images would not give this class",
        ),
        (
            posterior("local", 0.95),
            5,
            0.4,
            "posterior: local 0.95; 5 of 8 pairs are valid; the SAE leaves 40% of the variance unexplained",
        ),
    ],
)
def test_trust_names_what_it_comes_from(of, pairs, fvu, wanted):
    assert trust_reasons(of, found(), scores_of(pairs), 8, fvu) == [wanted]
