"""Mean patches without features, against the edited model and scikit-learn; sides of a ladder, by hand and on noise."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import ttest_rel
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from infoscope.analyses.predictors.pooled import PooledImages, read_pooled
from infoscope.analyses.predictors.removals import HEADS, Classifier, compare_sets, holm
from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.variants import Variant
from infoscope.images.source import open_images
from infoscope.images.views import Views
from infoscope.runtime.execution import Execution
from infoscope.runtime.partials import Partials
from small import pictures

FEATURES = np.array([0, 3, 17, 40], np.uint32)


@pytest.fixture(scope="module")
def edited(probed, directions):
    return EditedBackbone(probed, directions)


def read(edited, images, folder=None):
    execution = Execution(batch_size=4)
    return read_pooled(edited, open_images(images), "stretch", execution, Partials(folder), "test")


def test_a_removal_is_that_of_the_edited_model(edited):
    views = Views(edited.backbone.patch_size, edited.backbone.grid, 0, "stretch")
    images = np.stack([views.full(image) for image in pictures(6)])
    found = read(edited, pictures(6))
    group = FeatureGroup("some", "list", FEATURES)
    variants = [Variant("untouched", site="site"), Variant("minus some", group, site="site")]
    for variant, outputs in edited.run(images, [str(n) for n in range(6)], variants):
        expected = outputs.tokens[edited.backbone.block][:, edited.backbone.prefix_tokens :].mean(1).numpy()
        rows = found.without(FEATURES) if variant.edited else found.tokens
        assert rows == pytest.approx(expected, abs=1e-5)
    assert np.abs(found.removed(FEATURES)).max() > 1e-2


def test_the_codes_of_all_features_are_all_that_the_dictionary_explains(edited):
    # The dictionary has every direction up and down, and so reconstructs every token.
    found = read(edited, pictures(3))
    every = np.arange(edited.sae.features, dtype=np.uint32)
    assert found.without(every) == pytest.approx(np.zeros_like(found.tokens), abs=1e-5)


def test_stretches_that_were_read_are_not_read_again(edited, tmp_path):
    before = read(edited, pictures(5), tmp_path)
    [name] = Partials(tmp_path).names()
    arrays = Partials(tmp_path).read(name)
    Partials(tmp_path).put(name, arrays | {"tokens": np.zeros_like(arrays["tokens"])})
    after = read(edited, pictures(5), tmp_path)
    assert not after.tokens.any()
    assert before.tokens.any()
    assert (after.codes != before.codes).nnz == 0


@pytest.fixture(scope="module")
def classifier():
    """Two features tell three classes apart, and the third is noise; a decoder of unit vectors."""
    random = np.random.default_rng(0)

    def split(count):
        labels = np.arange(count) % 3
        codes = np.eye(3)[labels] * 2 + random.normal(0, 0.4, (count, 3))
        codes[:, 2] = random.normal(0, 1, count)
        tokens = codes + random.normal(0, 0.1, (count, 3))
        images = PooledImages(
            np.arange(count), tokens.astype(np.float32), csr_matrix(codes), np.eye(3, dtype=np.float32), {}
        )
        return images, labels

    (train, train_labels), (test, test_labels) = split(240), split(150)
    return Classifier(train, test, train_labels, test_labels, 3)


def test_a_head_of_its_own_is_the_one_that_sklearn_finds(classifier):
    features = np.array([0], np.uint32)
    rows = classifier.train.without(features)
    scaler = StandardScaler().fit(rows)
    reference = LogisticRegression(C=1 / (classifier.strength * len(rows)), tol=1e-8, max_iter=2000)
    reference.fit(scaler.transform(rows), classifier.train_labels)
    test = classifier.test.without(features)
    scores = classifier.score([features])
    shares = reference.predict_proba(scaler.transform(test))
    expected = -np.log(shares[np.arange(len(test)), classifier.test_labels])
    assert scores["loss"][0, HEADS.index("own")] == pytest.approx(expected, abs=2e-3)
    hits = reference.predict(scaler.transform(test)) == classifier.test_labels
    assert (scores["hits"][0, HEADS.index("own")] == hits).mean() > 0.99


def test_what_is_told_by_removed_features_is_lost_and_noise_is_not(classifier):
    scores = classifier.score([np.zeros(0, np.uint32), np.array([2], np.uint32), np.array([0, 1], np.uint32)])
    top_1 = scores["hits"].mean(2)
    assert top_1[0, 0] == top_1[0, 1] > 0.9
    assert top_1[1] == pytest.approx(top_1[0], abs=0.03)
    assert (top_1[2] < 0.6).all()
    assert scores["pooled"][0] == 0
    assert scores["pooled"][1] == pytest.approx((classifier.test.codes.toarray()[:, 2] ** 2).mean(), rel=1e-5)


def test_the_kept_head_is_that_of_the_unedited_tokens(classifier):
    logits = classifier.untouched.linear(classifier.test.without(np.array([1], np.uint32)))
    hits = classifier.score([np.array([1], np.uint32)])["hits"][0, HEADS.index("kept")]
    assert (hits == (logits.argmax(1) == classifier.test_labels)).all()


def test_a_difference_worked_by_hand():
    found = compare_sets(np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]), np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]))
    # By set 2/3 and 1/3, by image 1/2, 1/2 and 1/2.
    assert (found.first, found.second, found.value, found.pairs) == pytest.approx((5 / 6, 1 / 3, 1 / 2, 2))
    assert found.sets_error == pytest.approx(1 / 6)
    assert found.images_error == 0


def test_with_sets_that_are_alike_only_the_images_are_uncertain():
    random = np.random.default_rng(0)
    first, second = np.tile(random.random(50), (4, 1)), np.tile(random.random(50), (4, 1))
    found = compare_sets(first, second)
    assert found.sets_error == pytest.approx(0, abs=1e-12)
    difference = (first - second)[0]
    assert found.images_error == pytest.approx(difference.std(ddof=1) / np.sqrt(50))
    assert found.error == pytest.approx(found.images_error)


def test_with_images_that_are_alike_it_is_the_paired_t_test():
    random = np.random.default_rng(1)
    first, second = random.random((6, 1)) + np.zeros((6, 3)), random.random((6, 1)) + np.zeros((6, 3))
    assert compare_sets(first, second).p == pytest.approx(ttest_rel(first[:, 0], second[:, 0]).pvalue)


def test_a_surplus_of_sets_is_left_out():
    first = np.ones((3, 2))
    assert compare_sets(first, np.zeros((2, 2))).pairs == 2
    assert np.isnan(compare_sets(first[:1], np.zeros((2, 2))).sets_error)


def test_noise_alone_is_rarely_called_a_difference():
    random = np.random.default_rng(2)
    sets = [compare_sets(random.random((8, 1)) + np.zeros((8, 40)), np.zeros((8, 40))).p for _ in range(2)]
    assert max(sets) < 0.05
    found = [
        compare_sets(random.normal(0, 1, (8, 1)) + random.normal(0, 0.5, (8, 40)), np.zeros((8, 40))).p
        for _ in range(400)
    ]
    # An error that is too small by a third would give 14 %.
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.08


def test_the_error_of_both_is_that_of_fresh_sets_and_images():
    random = np.random.default_rng(3)

    def drawn():
        effect = random.normal(0, 1, (8, 1)) + random.normal(0, 2, (1, 30)) + random.normal(0, 3, (8, 30))
        return compare_sets(effect, np.zeros((8, 30)))

    found = [drawn() for _ in range(600)]
    spread = np.std([each.value for each in found])
    assert spread == pytest.approx(np.sqrt(1 / 8 + 4 / 30 + 9 / 240), rel=0.1)
    assert np.sqrt(np.mean([each.error**2 for each in found])) == pytest.approx(spread, rel=0.1)


def test_holms_correction_worked_by_hand():
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
