"""The stages of a measurement: each is cut into shards, which an executor has done, and puts them together."""

from __future__ import annotations

import hashlib

import numpy as np

from infoscope.execution.executor import Executor, Job
from infoscope.execution.partials import Partials, shards
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.maps import ImageMaps
from infoscope.measurement.passes import Ranked
from infoscope.measurement.ranking import Ranking
from infoscope.progress import progress
from infoscope.scope.pairs import MapPairs
from infoscope.scope.score import PairScores, score_pairs

# Pairs scored between two reports of progress.
SHARD_PAIRS = 16384


def rank_images(
    executor: Executor, images: int, shard_images: int, config: MeasureConfig, partials: Partials, show_progress: bool
) -> Ranked:
    """Rank every image."""
    method, title = ("rank", "Ranking") if config.rank_view == "full" else ("rank_crops", "Crops")
    jobs = [
        Job(f"ranking-{shard.start:09}-{shard.stop:09}", len(shard), method, (shard,))
        for shard in shards(images, shard_images)
    ]
    merged: Ranked | None = None
    with progress(title, images, "images", enabled=show_progress) as advance:
        for arrays in executor.run(jobs, partials, advance):
            part = Ranked.from_arrays(arrays)
            merged = part if merged is None else merged.merge(part)
    assert merged is not None  # a source is never empty
    return merged


def map_images(
    executor: Executor, ranking: Ranking, cells: int, shard_images: int, partials: Partials, show_progress: bool
) -> ImageMaps:
    """The maps of every chosen image."""
    image, feature = ranking.chosen()
    chosen = np.unique(image)
    jobs = []
    for shard in shards(len(chosen), shard_images):
        within = slice(*np.searchsorted(image, [chosen[shard.start], chosen[shard.stop - 1] + 1]))
        asked = image[within], feature[within]
        # By what is asked: where a ranking is done again on other hardware, maps of the one before do not answer it.
        digest = hashlib.sha256(b"".join(array.tobytes() for array in asked)).hexdigest()[:12]
        jobs.append(Job(f"maps-{shard.start:09}-{shard.stop:09}-{digest}", len(shard), "maps", asked))
    with progress("Crops of the chosen images", len(chosen), "images", enabled=show_progress) as advance:
        parts = [ImageMaps.from_arrays(arrays) for arrays in executor.run(jobs, partials, advance)]
    return ImageMaps.concatenate([ImageMaps.empty(cells), *parts])


def map_pairs(ranking: Ranking, maps: ImageMaps) -> MapPairs:
    """The maps of a ranking's images, ordered by feature, then rank."""
    feature, rank = np.nonzero(ranking.image >= 0)
    image = ranking.image[feature, rank]
    by_feature = np.lexsort((maps.image, maps.feature))
    # Position of each ranked (feature, image) among the maps in that order: the k-th of its feature by image.
    wanted = np.lexsort((image, feature))
    place = np.empty(len(feature), np.int64)
    place[wanted] = by_feature
    assert np.array_equal(maps.image[place], image)
    assert np.array_equal(maps.feature[place], feature)
    return MapPairs(
        feature=feature.astype(np.uint32),
        rank=rank.astype(np.uint16),
        image=image.astype(np.uint64),
        score=ranking.score[feature, rank],
        first=maps.first.take(place),
        second=maps.second.take(place),
    )


def score_all(pairs: MapPairs, grid: int, config: MeasureConfig, show_progress: bool) -> PairScores:
    """Score all pairs, some at a time."""
    count = len(pairs)
    with progress("Earth mover's distances", count, "pairs", enabled=show_progress) as advance:
        parts = []
        for shard in shards(count, SHARD_PAIRS) or [range(0)]:
            some = pairs.take(shard)
            reference = some.score if config.rank_by == "max" else some.peak()
            parts.append(score_pairs(some, grid, config.shift, config.ground_distance, reference))
            advance(len(shard))
    return PairScores.concatenate(parts)
