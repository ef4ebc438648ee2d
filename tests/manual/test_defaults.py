"""The constants in docs/defaults.md that decide classes are those of the code."""

import re

import pytest

from infoscope.analyses.removal import config as removal
from infoscope.analyses.removal.ladder import TOLERANCE
from infoscope.analyses.removal.sample import SAMPLE_TOKENS
from infoscope.measurement import controls, noise
from infoscope.scope import code_noise, displacement, evidence, posterior, threshold_rules
from infoscope.scope.posterior import PosteriorRules
from infoscope.scope.threshold_rules import ClassRules
from infoscope.scope.trust import TrustRules
from snippets import ROOT

WORDS = {"three quarters": 0.75, "two thirds": 2 / 3, "half": 0.5, "a quarter": 0.25, "a fifth": 0.2}
NUMBER = re.compile(rf"-?\d[\d,]*(?:\.\d+)?(?: %)?|{'|'.join(WORDS)}")
NEW, OLD, TRUST = PosteriorRules(), ClassRules(), TrustRules()
STATED = {
    "Classes and trust": {
        "displaced share: cut off at": [displacement.CUT_OFF],
        "pair keeps to pixels or place": [displacement.LEAST_KEPT],
        "nearer to one than to the other": [displacement.NEARER],
        "room beyond noise": [displacement.LEAST_ROOM],
        "level of a class": [NEW.level],
        "local": [NEW.most],
        "local: displacement of those under": [NEW.low],
        "global: keeps to its pixels": [NEW.kept],
        "global: jumps, vanishes or stays": [NEW.away],
        "position-bound": [NEW.bound],
        "diffuse: still": [NEW.still],
        "mixed over images": [NEW.either, NEW.either],
        "mixed within maps": [NEW.partly, NEW.low],
        "still, where neither is kept": [displacement.STILL],
        "broad": [NEW.broad, NEW.narrow_null],
        "prior: grid": [posterior._EDGES[0], posterior._EDGES[-1]],
        "prior: least share": [posterior._LEAST_SHARE],
        "prior: fit": [posterior._ITERATIONS, posterior._FITTED_FEATURES],
        "trust: draws": [posterior._DRAWS],
        "named in reasons": [evidence._NAMED, evidence._FEW, evidence._LOOSE_FVU],
        "classes: repeatable": [controls.REPEATABLE],
    },
    "Removing feature groups": {
        "sample of images, for means, mass and the ladder": [removal.SAMPLE_IMAGES],
        "sets to a step and side": [removal.DRAWS, SAMPLE_TOKENS],
        "`--steps` of the ladder": [100 * step for step in removal.STEPS[:-1]] + [removal.STEPS[-1], TOLERANCE],
    },
    "Code noise": {
        "pixels": [noise.PIXEL_NOISE, 255],
        "at risk": [code_noise.LEAST_CODES, code_noise.LEAST_PATCHES, code_noise.LEAST_FEATURES],
        "a feature's own chances": [code_noise.OWN_CODES, code_noise.OWN_PATCHES],
        "features counted bin by bin": [noise.COUNTED_FEATURES],
        "spread of codes that stay": [code_noise.LEAST_DRIFTS],
        "copies": [code_noise.DRAWS, 0.5],
    },
    "The older rules": {
        "pair follows or stays": [threshold_rules.RATIO],
        "pair is away": [threshold_rules.AWAY],
        "position-bound": [OLD.staying, OLD.away],
        "local": [OLD.away, OLD.following, OLD.calibrated, OLD.far_from_crop, OLD.calibrated_alone],
        "settled": [OLD.settled, OLD.settled_unrelated],
        "broad, still": [OLD.broad, OLD.still],
        "jumping, vanished": [OLD.jumping],
        "trust: fit": [TRUST.fvu_good, TRUST.fvu_bad],
        "trust: unknown, named": [TRUST.unknown, TRUST.named],
    },
}


def numbers(cell: str) -> list[float]:
    """The numbers in a cell, in their order; shares in per cent as shares."""
    found = NUMBER.findall(cell)
    return [
        WORDS[text] if text in WORDS else float(text.removesuffix(" %").replace(",", "")) / (100 if "%" in text else 1)
        for text in found
    ]


def rows(section: str) -> dict[str, str]:
    """The second cell of each row of a section, by the first."""
    text = (ROOT / "docs" / "defaults.md").read_text(encoding="utf-8")
    table = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    cells = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {row[0].removeprefix("| "): row[1] for row in cells}


@pytest.mark.parametrize("section", STATED)
def test_the_page_states_the_constants_of_the_code(section):
    stated = rows(section)
    for name, values in STATED[section].items():
        assert numbers(stated[name]) == pytest.approx(values), name


def test_numbers_are_read_as_they_are_written():
    assert numbers("60 steps, up to 2,048; from -0.2 on, a fifth or 40 %, and half") == [60, 2048, -0.2, 0.2, 0.4, 0.5]
