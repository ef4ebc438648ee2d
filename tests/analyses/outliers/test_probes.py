"""Probes against scikit-learn used by hand, planted truths and planted leaks; the choice of their tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from infoscope.analyses.outliers.probes import (
    STRENGTHS,
    choose_tokens,
    pair_within_images,
    pair_within_patches,
    probe_labels,
    probe_pixels,
    probe_position,
)

GRID = 5


@pytest.fixture(scope="module")
def sample():
    """Tokens that hold some of their place, their pixels and their picture's label, under noise."""
    rng = np.random.default_rng(0)
    image, patch = np.repeat(np.arange(60), 5), rng.integers(0, GRID**2, 300)
    pixels = rng.integers(0, 256, (300, 12), dtype=np.uint8)
    label = np.arange(60) % 3
    vectors = np.concatenate(
        [
            np.stack(np.divmod(patch, GRID), axis=1),
            pixels[:, :4] / 60,
            np.eye(3)[label[image]] * 2,
            np.zeros((300, 6)),
        ],
        axis=1,
    ) + rng.normal(0, 0.7, (300, 15))
    return vectors.astype(np.float32), patch, pixels, image, label


def by_hand(model, vectors, target, image):
    """Predictions of five parts by image, with nothing of `infoscope` but the list of strengths."""
    found = np.empty_like(target)
    for train, test in GroupKFold(5, shuffle=True, random_state=0).split(vectors, groups=image):
        assert not set(image[train]) & set(image[test])
        scale = StandardScaler().fit(vectors[train].astype(np.float64))
        model.fit(scale.transform(vectors[train].astype(np.float64)), target[train])
        found[test] = model.predict(scale.transform(vectors[test].astype(np.float64)))
    return found


def test_position_is_scikit_learns(sample):
    vectors, patch, _, image, _ = sample
    score = probe_position(vectors, patch, image, GRID)
    place = np.stack(np.divmod(patch, GRID), axis=1).astype(float)
    found = by_hand(RidgeCV(STRENGTHS), vectors, place, image)
    assert score.r2 == pytest.approx(r2_score(place, found, multioutput="variance_weighted"))
    assert score.r2 == pytest.approx(1 - ((found - place) ** 2).sum() / ((place - place.mean(0)) ** 2).sum())
    assert score.error == pytest.approx(np.sqrt(((found - place) ** 2).sum(1)).mean())
    assert 0.5 < score.r2 < 0.9
    assert score.top1 > 2 * score.baseline_top1
    assert score.error < score.baseline_error


def test_pixels_are_scikit_learns(sample):
    vectors, _, pixels, image, _ = sample
    score = probe_pixels(vectors, pixels, image)
    exact = pixels.astype(float)
    found = by_hand(RidgeCV(STRENGTHS), vectors, exact, image)
    assert score.rmse == pytest.approx(np.sqrt(((found - exact) ** 2).mean()))
    assert score.r2 == pytest.approx(r2_score(exact, found, multioutput="variance_weighted"))
    colour = exact.reshape(len(exact), -1, 3).mean(1)
    assert colour[0] == pytest.approx(exact[0, [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]].reshape(3, 4).mean(1))
    of_colour = by_hand(RidgeCV(STRENGTHS), vectors, colour, image)
    assert score.colour_r2 == pytest.approx(r2_score(colour, of_colour, multioutput="variance_weighted"))
    assert score.r2 > 0.1
    assert score.rmse < score.baseline_rmse


def test_labels_are_scikit_learns(sample):
    vectors, _, _, image, label = sample
    one = np.flatnonzero(np.diff(image, prepend=-1))
    score = probe_labels(vectors[one], label, image[one])
    found = by_hand(LogisticRegression(max_iter=1000), vectors[one], label, image[one])
    assert score.top1 == (found == label).mean()
    assert score.top1 > 0.6
    assert (score.tokens, score.labels) == (60, 3)
    assert score.baseline_top1 < 0.4


def test_what_a_token_knows_of_its_picture_alone_helps_no_held_out_one():
    # Each picture's tokens are alike and sit on one patch: a probe that has seen the picture would name it.
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(40), 10)
    patch = rng.integers(0, GRID**2, 40)[image]
    vectors = rng.normal(size=(40, 30))[image] + rng.normal(0, 0.01, (400, 30))
    score = probe_position(vectors.astype(np.float32), patch, image, GRID)
    assert score.r2 < 0.1
    assert score.top1 < 0.2
    pixels = rng.integers(0, 256, (40, 12), dtype=np.uint8)[image]
    assert probe_pixels(vectors.astype(np.float32), pixels, image).r2 < 0.1


masks = st.tuples(st.integers(1, 8), st.integers(1, 9)).flatmap(lambda shape: arrays(bool, shape))


@given(masks, st.integers(1, 20), st.integers(0, 3), st.booleans())
def test_pairs_within_images(outlier, most, seed, one):
    pairs = pair_within_images(outlier, most, np.random.default_rng(seed), one_per_image=one)
    high, low = pairs.outlier, pairs.normal
    np.testing.assert_array_equal(high.row, low.row)
    assert outlier[high.row, high.patch].all()
    assert not outlier[low.row, low.patch].any()
    for those in (high, low):
        assert len({*zip(those.row.tolist(), those.patch.tolist(), strict=True)}) == len(those)
    there = np.minimum(outlier.sum(1), (~outlier).sum(1))
    assert len(high) == min(most, np.minimum(there, 1).sum() if one else there.sum())
    if one:
        assert (np.diff(high.row) > 0).all()


@given(masks, st.integers(1, 20), st.integers(0, 3))
def test_pairs_within_patches(outlier, most, seed):
    pairs = pair_within_patches(outlier, most, np.random.default_rng(seed))
    high, low = pairs.outlier, pairs.normal
    np.testing.assert_array_equal(high.patch, low.patch)
    assert outlier[high.row, high.patch].all()
    assert not outlier[low.row, low.patch].any()
    for those in (high, low):
        assert len({*zip(those.row.tolist(), those.patch.tolist(), strict=True)}) == len(those)
    assert len(high) == min(most, np.minimum(outlier.sum(0), (~outlier).sum(0)).sum())


def test_a_probe_that_cannot_be_made_says_why():
    outlier = np.zeros((100, 25), bool)
    outlier[:10, 3] = True
    notes = choose_tokens(outlier, ["a"] * 50 + ["b"] * 50, 1000, 0).notes
    assert (
        notes[0]
        == "position: 10 outlier tokens have a normal one at the same patch, in 10 images; a probe needs 50 in 5"
    )
    assert notes[1] == "pixels: 10 outlier tokens in 10 images; a probe needs 50 in 5"
    assert notes[2].startswith("labels: 10 images with outlier tokens are of a label with 10 of them")
    outlier[:50, 3] = True
    notes = choose_tokens(outlier, None, 1000, 0).notes
    assert notes == ["position: all outlier tokens that can be compared sit on one patch", "labels: none were given"]
    outlier[:, 3] = True
    assert choose_tokens(outlier, None, 1000, 0).notes[0].startswith("position: 0 outlier tokens have a normal one")
    outlier = np.eye(100, 25, dtype=bool) | np.eye(100, 25, -25, dtype=bool) | np.eye(100, 25, -50, dtype=bool)
    # A label with few images is left out, the others stay.
    probing = choose_tokens(outlier, ["a"] * 30 + ["b"] * 40 + ["c"] * 30, 1000, 0)
    assert set(probing.label) == {"a", "b"}
    assert probing.notes == []
    assert set(probing.chosen) == {f"{n}_{k}" for n in ("position", "pixels", "labels") for k in ("outlier", "normal")}


def test_no_tokens_for_probes_leave_the_probes_out():
    outlier = np.zeros((100, 16), bool)
    outlier[:, 3] = True
    chosen = choose_tokens(outlier, ["a"] * 50 + ["b"] * 50, 0, 0)
    assert chosen.chosen == {}
    assert chosen.notes == ["any kind: --probe-tokens is 0"]


def test_a_position_probe_needs_five_images_of_either_kind():
    one = np.zeros((100, 64), bool)
    one[0, :60] = True
    # Outlier tokens of one image, and normal ones of one image.
    for outlier in (one, ~one[:, :60]):
        probing = choose_tokens(outlier, None, 1000, 0)
        assert probing.notes[0] == (
            "position: 60 outlier tokens have a normal one at the same patch, in 1 images; a probe needs 50 in 5"
        )
        assert not any(name.startswith("position") for name in probing.chosen)
