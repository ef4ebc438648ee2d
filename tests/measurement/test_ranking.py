import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoscope.measurement.ranking import Ranking

FEATURES = 5


def expected(score, top):
    """The definition: images with a score above 0, by score descending, then index ascending."""
    best = []
    for feature in range(score.shape[1]):
        order = sorted((-s, i) for i, s in enumerate(score[:, feature]) if s > 0)[:top]
        best.append([(i, -s) for s, i in order])
    return best


def found(ranking):
    return [
        [(int(i), float(s)) for i, s in zip(image, score, strict=True) if i >= 0]
        for image, score in zip(ranking.image, ranking.score, strict=True)
    ]


def fill(ranking, score, index):
    ranking.update(np.asarray(index, np.int64), score[index], (score[index] > 0).sum(0), tokens=4 * len(index))


# Few distinct values, so that ties are everywhere.
SCORES = st.integers(1, 30).flatmap(
    lambda count: st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), min_size=FEATURES, max_size=FEATURES),
        min_size=count,
        max_size=count,
    )
)


@pytest.mark.slow
@given(SCORES, st.integers(1, 6), st.integers(1, 7), st.randoms(use_true_random=False))
def test_any_order_and_any_split_give_the_definition(rows, top, parts, random):
    score = np.array(rows, np.float32)
    order = list(range(len(score)))
    random.shuffle(order)
    rankings = []
    for part in range(parts):
        ranking = Ranking.empty(FEATURES, top)
        mine = order[part::parts]
        for start in range(0, len(mine), 3):
            fill(ranking, score, mine[start : start + 3])
        rankings.append(ranking)
    merged = rankings.pop()
    for ranking in rankings:
        merged.merge(ranking)
    assert found(merged) == expected(score, top)
    assert merged.images_active.tolist() == (score > 0).sum(0).tolist()
    assert merged.seen.tolist() == [len(score), 4 * len(score)]


def test_many_features_cross_the_kernels_blocks():
    score = np.random.default_rng(0).integers(0, 9, (40, 1000)).astype(np.float32)
    ranking = Ranking.empty(1000, 4)
    fill(ranking, score, np.arange(40))
    assert found(ranking) == expected(score, 4)


def test_chosen_pairs_are_ordered_by_image_then_feature():
    score = np.array([[1, 0, 2, 0, 0], [3, 3, 0, 0, 1]], np.float32)
    ranking = Ranking.empty(FEATURES, 2)
    fill(ranking, score, [0, 1])
    image, feature = ranking.chosen()
    assert list(zip(image.tolist(), feature.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 0), (1, 1), (1, 4)]
    assert ranking.chosen(1, 1)[1].tolist() == [0, 1, 4]


@pytest.mark.parametrize("value", [np.nan, -np.inf, 0.0])
def test_scores_that_are_not_positive_never_enter(value):
    ranking = Ranking.empty(1, 2)
    ranking.update(np.array([0]), np.full((1, 1), value, np.float32), np.array([0]), tokens=1)
    assert found(ranking) == [[]]
