"""The interval of mIoU against scipy's bootstrap, and what file names say of frames."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from infoscope.analyses.probes.metrics import Confusion
from infoscope.analyses.probes.overlaps import (
    miou_interval,
    pack_overlaps,
    resampled_miou,
    sequence_note,
    unpack_overlaps,
)
from infoscope.analyses.probes.result import difference_interval
from infoscope.analyses.probes.task import Score

CLASSES, IMAGES = 4, 40


def predicted_masks(quality, seed=0):
    """Truth and prediction of images, in which class 3 is rare."""
    random = np.random.default_rng(seed)
    truth = random.choice(CLASSES, (IMAGES, 6, 6), p=[0.5, 0.3, 0.195, 0.005])
    other = np.random.default_rng(seed + 1).integers(0, CLASSES, truth.shape)
    return truth, np.where(np.random.default_rng(seed + 2).random(truth.shape) < quality, truth, other)


def counts_of(truth, predicted):
    counts = []
    for true, guessed in zip(truth, predicted, strict=True):
        image = Confusion(CLASSES)
        image.add(true, guessed)
        counts.append(image.overlaps)
    return np.stack(counts)


def test_resampled_images_have_the_miou_of_their_pixels_together():
    truth, predicted = predicted_masks(0.6)
    counts = counts_of(truth, predicted)
    drawn = np.random.default_rng(3).integers(0, IMAGES, (5, IMAGES))
    drawn[0] = np.arange(IMAGES)
    drawn[1] = 7  # one image, in which classes are missing
    times = np.stack([np.bincount(draw, minlength=IMAGES) for draw in drawn])
    expected = []
    for draw in drawn:
        confusion = Confusion(CLASSES)
        confusion.add(truth[draw], predicted[draw])
        expected.append(confusion.mean_iou)
    np.testing.assert_allclose(resampled_miou(counts, times), expected, rtol=1e-12)


def test_the_interval_is_scipys():
    counts = [counts_of(*predicted_masks(quality)) for quality in (0.5, 0.6)]

    def difference(image, axis):
        times = np.stack([np.bincount(draw, minlength=IMAGES) for draw in image.reshape(-1, IMAGES).astype(int)])
        values = resampled_miou(counts[0], times) - resampled_miou(counts[1], times)
        return values.reshape(image.shape[:-1])

    expected = bootstrap(
        (np.arange(IMAGES),), difference, n_resamples=4000, batch=200, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    low, high = miou_interval(*counts, draws=4000)
    length = expected.high - expected.low
    assert low == pytest.approx(expected.low, abs=0.08 * length)
    assert high == pytest.approx(expected.high, abs=0.08 * length)
    assert low < high < 0


def test_scores_that_were_kept_without_counts_have_no_interval():
    counts = counts_of(*predicted_masks(0.5))
    packed = pack_overlaps(counts)
    assert len(packed) < 4000
    np.testing.assert_array_equal(unpack_overlaps(packed), counts)
    known, unknown = (Score({"mIoU": 0.5}, 0.5, {}, overlaps=text) for text in (packed, ""))
    assert difference_interval(known, unknown) == (None, None)
    assert difference_interval(known, known) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["0001TP_008550.png", "0001TP_008580.png"], "2 test images are frames of 1 sequence (0001TP)"),
        (["test/Seq05VD_f00000.png", "0016E5_00390.jpg"], "2 sequences (0016E5, Seq05VD)"),
        (["ADE_val_00000001.jpg", "ADE_val_00000002.jpg"], None),
        (["0001TP_008550.png", "photograph.png"], None),
        ([], None),
    ],
)
def test_frames_of_a_drive_are_no_streets(names, said):
    note = sequence_note(names)
    assert note is None if said is None else said in note
