"""Colours of classes: the same everywhere, and told apart by eyes that lack a kind of cone."""

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from infoscope.scope.classes import CLASSES
from infoscope.views.report.charts import ON_DARK, ON_LIGHT, SHAPES

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
GROUNDS = {"light": "#ffffff", "dark": "#15181b"}
SETS = {"light": ON_LIGHT, "dark": ON_DARK}


def linear(colour):
    channels = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    xyz = TO_XYZ @ rgb / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def ciede2000(first, second):
    (l1, a1, b1), (l2, a2, b2) = first, second
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25.0**7))
    c1, c2 = np.hypot(a1 * stretch, b1), np.hypot(a2 * stretch, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a * stretch)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180
    hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    light, chroma, angle = (l1 + l2) / 2, (c1 + c2) / 2, (h1 + turn / 2) % 360
    t = (
        1
        - 0.17 * np.cos(np.radians(angle - 30))
        + 0.24 * np.cos(np.radians(2 * angle))
        + 0.32 * np.cos(np.radians(3 * angle + 6))
        - 0.2 * np.cos(np.radians(4 * angle - 63))
    )
    dl = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    dc, dh = (c2 - c1) / (1 + 0.045 * chroma), hue / (1 + 0.015 * chroma * t)
    rotation = (
        -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * np.sin(np.radians(60 * np.exp(-(((angle - 275) / 25) ** 2))))
    )
    return np.sqrt(dl**2 + dc**2 + dh**2 + rotation * dc * dh)


def test_the_distance_is_ciede2000():
    # Three pairs of the test data of Sharma, Wu and Dalal 2005.
    for first, second, expected in (
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ):
        assert ciede2000(first, second) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("ground", "least"), [("light", 15.9), ("dark", 13.0)])
def test_every_two_classes_are_told_apart(vision, ground, least):
    seen = {name: lab(np.clip(VISION[vision] @ linear(colour), 0, 1)) for name, colour in SETS[ground].items()}
    assert min(ciede2000(seen[one], seen[other]) for one, other in combinations(CLASSES, 2)) >= least


@pytest.mark.parametrize("ground", GROUNDS)
def test_every_class_stands_out_from_its_ground(ground):
    weights = TO_XYZ[1]
    behind = weights @ linear(GROUNDS[ground])
    for colour in SETS[ground].values():
        light, dark = sorted((weights @ linear(colour), behind), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3


def test_the_site_and_the_notebook_have_the_same_colours():
    css = {
        "site": files("infoscope.views.report").joinpath("web", "bundle", "site.css").read_text("utf-8"),
        "notebook": files("infoscope.views.notebook").joinpath("style.css").read_text("utf-8"),
    }
    for text in css.values():
        for name in CLASSES:
            found = re.findall(rf"--c-{name}:\s*(#[0-9a-f]{{6}})", text)
            assert found[0] == ON_LIGHT[name]
            assert set(found[1:]) == {ON_DARK[name]}
    assert dict(re.findall(r"--m-([\w-]+):\s*(#[0-9a-f]{6})", css["site"])) == dict(ON_LIGHT)


def test_two_classes_of_one_shape_are_a_disc_and_a_ring():
    same = [pair for pair in combinations(CLASSES, 2) if SHAPES[pair[0]] == SHAPES[pair[1]]]
    assert same == [("local", "undefined")]
