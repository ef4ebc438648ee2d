"""What probes find without the planted features that hold it, and without those that do not.

    pytest -s tests/analyses/removal/test_planted_truth.py

prints the table of docs/removal.md.
"""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score, roc_auc_score

from infoscope.analyses.planted.plant import plant
from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.groups import FeatureGroup, matched_groups
from infoscope.analyses.removal.statistics import read_statistics
from infoscope.analyses.removal.variants import Variant
from infoscope.images.source import open_images
from planting import SHAPE, SIDE, scenes

pytestmark = pytest.mark.slow

IMAGES, TRAINED = 210, 140
STRENGTHS = np.logspace(-3, 4, 15)


def ridge(inputs, targets):
    """R^2 over all targets, on images that the probe was not trained on."""
    probe = RidgeCV(STRENGTHS).fit(inputs[0], targets[0])
    return r2_score(targets[1], probe.predict(inputs[1]), multioutput="variance_weighted")


def logistic(inputs, targets):
    """Area under the curve, on other images."""
    scale = inputs[0].std()
    probe = LogisticRegression(C=1.0, max_iter=1000).fit(inputs[0] / scale, targets[0][:, 0])
    return roc_auc_score(targets[1][:, 0], probe.decision_function(inputs[1] / scale))


def split(values, by_patch=False):
    """Trained on and tested on; patch by patch without the images they are of."""
    both = values[:TRAINED], values[TRAINED:]
    return [side.reshape(-1, side.shape[-1])[:: 3 if by_patch else 1] for side in both]


@pytest.fixture(scope="module")
def table():
    """By variant: R^2 of what the local features see in a patch, from its token, and of the global strengths from
    one outlier token; AUC of whether these are more than usual, from that token and from the mean patch."""
    pictures = scenes(IMAGES)
    planted = plant(pictures, **SHAPE)
    views = pictures[:, :SIDE, :SIDE]
    kinds = np.array(planted.kinds)
    codes = planted.codes(torch.tensor(views)).numpy()
    strength = codes[:, :, kinds == "global"].max(1)
    many = strength.sum(1) > np.median(strength.sum(1))

    groups = {kind: FeatureGroup(kind, "list", np.flatnonzero(kinds == kind).astype(np.uint32)) for kind in set(kinds)}
    sample = open_images(pictures[:TRAINED])
    mass = read_statistics(planted.backbone, planted.dictionary, sample, sample_images=60, donors=0).mass
    for kind in ("global", "local"):
        (groups[f"random of equal mass as {kind}"],) = matched_groups(groups[kind], mass, "mass", draws=1)
    variants = [Variant("untouched", site="site")]
    variants += [Variant(f"minus {name}", groups[name], site="site") for name in sorted(groups)]
    edited = EditedBackbone(planted.backbone, planted.dictionary)
    read = {
        variant.name: outputs.tokens[3][:, 1:].numpy()
        for variant, outputs in edited.run(views, [str(number) for number in range(IMAGES)], variants)
    }
    outlier = np.linalg.norm(read["untouched"], axis=-1) > 10
    three = np.repeat(np.concatenate([strength, many[:, None]], axis=1)[:, None], SHAPE["outliers"], axis=1)
    found = {}
    for name, tokens in read.items():
        one, mean = split(tokens[outlier].reshape(*three.shape[:2], -1)), split(tokens.mean(1))
        found[name] = {
            "patch": ridge(split(tokens, by_patch=True), split(codes[:, :, kinds == "local"], by_patch=True)),
            "image": ridge(one, split(three[..., :-1])),
            "label": logistic(one, split(three[..., -1:])),
            "label, mean patch": logistic(mean, split(many[:, None])),
        }
    print()
    for name, row in found.items():
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in row.values()) + " |")
    return found


def test_probes_find_both_in_the_untouched_model(table):
    untouched = table["untouched"]
    assert untouched["patch"] > 0.35
    assert untouched["image"] > 0.4
    assert min(untouched["label"], untouched["label, mean patch"]) > 0.68


def test_without_global_features_the_image_is_lost_and_the_pixels_are_not(table):
    untouched, edited = table["untouched"], table["minus global"]
    assert edited["patch"] == pytest.approx(untouched["patch"], abs=0.02)
    assert edited["image"] < 0.1
    assert edited["label"] < 0.6
    # The mean of what all patches show says something of the image too.
    assert edited["label, mean patch"] < untouched["label, mean patch"]


def test_without_local_features_the_pixels_are_lost_and_the_image_is_not(table):
    untouched, edited = table["untouched"], table["minus local"]
    assert edited["patch"] < 0.4 * untouched["patch"]
    for name in ("image", "label", "label, mean patch"):
        assert edited[name] > untouched[name] - 0.05


def test_random_features_of_equal_mass_hold_neither_alone(table):
    for kind, name in (("global", "image"), ("local", "patch")):
        random, removed = (table[f"minus {row}"][name] for row in (f"random of equal mass as {kind}", kind))
        assert removed + 0.1 < random < table["untouched"][name] + 0.02
