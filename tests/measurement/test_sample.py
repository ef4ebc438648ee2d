import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoscope.measurement.ranking import ActiveSample, _mixed, keys

FEATURES = 5

SCORES = st.integers(1, 30).flatmap(
    lambda count: st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), min_size=FEATURES, max_size=FEATURES),
        min_size=count,
        max_size=count,
    )
)


def expected(score, slots, seed):
    """The active images of the lowest keys, in their order."""
    key = keys(np.arange(len(score)), seed)
    return [
        sorted((int(key[i]), i, float(s)) for i, s in enumerate(score[:, feature]) if s > 0)[:slots]
        for feature in range(score.shape[1])
    ]


def found(sample):
    rows = zip(sample.key, sample.image, sample.score, strict=True)
    return [[(int(k), int(i), float(s)) for k, i, s in zip(*row, strict=True) if i >= 0] for row in rows]


@pytest.mark.slow
@settings(max_examples=40)
@given(SCORES, st.integers(1, 8), st.integers(1, 7), st.integers(0, 3), st.randoms(use_true_random=False))
def test_any_order_and_any_split_give_the_definition(rows, slots, parts, seed, random):
    score = np.array(rows, np.float32)
    order = list(range(len(score)))
    random.shuffle(order)
    samples = []
    for part in range(parts):
        sample = ActiveSample.empty(FEATURES, slots)
        mine = order[part::parts]
        for start in range(0, len(mine), 3):
            some = np.array(mine[start : start + 3], np.int64)
            sample.update(some, score[some], seed)
        samples.append(sample)
    merged = samples.pop()
    for sample in samples:
        merged.merge(sample)
    assert found(merged) == expected(score, slots, seed)


def test_many_features_cross_the_kernels_blocks():
    score = np.random.default_rng(0).integers(0, 3, (40, 1000)).astype(np.float32)
    sample = ActiveSample.empty(1000, 6)
    sample.update(np.arange(40), score, seed=0)
    assert found(sample) == expected(score, 6, 0)


def test_keys_are_splitmix64s():
    """Its first numbers from seed 0, as Java's and others' implementations give them."""
    found = _mixed(np.array([0, 0x9E3779B97F4A7C15], np.uint64))
    assert found.tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_keys_differ_by_seed_and_are_uniform():
    first, second = (keys(np.arange(20_000), seed).astype(float) / 2**64 for seed in (0, 1))
    assert not np.array_equal(first, second)
    counts = np.histogram2d(first, second, bins=10, range=[[0, 1], [0, 1]])[0]
    # Chi-squared with 99 degrees of freedom: 99 % of draws are under 135.
    assert ((counts - 200) ** 2 / 200).sum() < 135


def test_a_sample_is_spread_over_the_quantiles():
    """Of 5,000 images a feature is active on, eight stand near the middles of its eighths."""
    random = np.random.default_rng(0)
    score = random.exponential(size=(5000, 200)).astype(np.float32)
    sample = ActiveSample.empty(200, 32)
    for first in range(0, 5000, 500):
        sample.update(np.arange(first, first + 500), score[first : first + 500], seed=0)
    spread = sample.spread(8)
    assert (np.diff(spread.score, axis=1) <= 0).all()
    share = (score.T[:, None, :] < spread.score[:, :, None]).mean(2)  # the quantile each image stands at
    middles = 1 - (np.arange(8) + 0.5) / 8
    assert np.abs(share.mean(0) - middles).max() < 0.03
    assert share.std(0).max() < 0.09  # sqrt(1/4 / 32) at the median


def test_all_active_images_where_they_are_few():
    sample = ActiveSample.empty(2, 12)
    score = np.float32([[0.5, 0], [2.0, 0], [1.0, 0], [2.0, 0]])
    sample.update(np.arange(4), score, seed=3)
    assert sample.spread(6).image.tolist() == [[1, 3, 2, 0, -1, -1], [-1] * 6]
    assert sample.spread(2).image.tolist() == [[3, 0], [-1, -1]]
