"""The container of map pairs refuses what is not sorted or does not match."""

import numpy as np
import pytest

from infoscope.scope.maps import MapPairs, SparseMaps


def make(feature: list[int], rank: list[int], maps: int | None = None) -> MapPairs:
    count = len(feature)
    first = SparseMaps.from_dense(np.arange(1.0, 5.0)[None] * np.ones((count, 1)))
    second = SparseMaps.from_dense(np.full((count if maps is None else maps, 4), 3.0))
    return MapPairs(
        np.array(feature, np.uint32),
        np.array(rank, np.uint16),
        np.arange(count, dtype=np.uint64),
        np.ones(count, np.float32),
        first,
        second,
    )


def test_peak_is_the_larger_of_both_crops_on_the_full_grid():
    assert make([0, 4, 4], [0, 0, 1]).peak().tolist() == [4.0, 4.0, 4.0]


def test_features_and_ranks_may_have_gaps():
    assert len(make([0, 2, 2, 2**32 - 1], [3, 0, 65535, 0])) == 4


def test_take_keeps_consecutive_pairs_as_they_are():
    pairs = make([0, 4, 4, 6], [0, 0, 1, 5])
    part = pairs.take(range(1, 3))
    assert part.feature.tolist() == [4, 4]
    assert part.rank.tolist() == [0, 1]
    assert part.image.tolist() == [1, 2]
    assert np.array_equal(part.first.dense(), pairs.first.dense()[1:3])
    assert np.array_equal(part.second.dense(), pairs.second.dense()[1:3])


@pytest.mark.parametrize(
    ("feature", "rank"), [([1, 0], [0, 0]), ([0, 0], [1, 0]), ([0, 0], [0, 0])], ids=["feature", "rank", "twice"]
)
def test_unsorted_or_repeated_pairs_are_refused(feature, rank):
    with pytest.raises(ValueError, match="sorted by feature and rank"):
        make(feature, rank)


def test_unequal_numbers_of_maps_are_refused():
    with pytest.raises(ValueError, match="2 pairs have 2 first and 3 second maps"):
        make([0, 1], [0, 0], maps=3)
