"""The stages of a measurement: each is cut into shards, which an executor has done, and puts them together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32, UInt32, UInt64

from infoscope.images.spread import spread_evenly
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.fold import RankingFold
from infoscope.measurement.map_sets import MAIN, Wanted, map_sets, most_pairs
from infoscope.runtime.executor import Executor, Job
from infoscope.runtime.partials import Part, Partials, shards
from infoscope.runtime.progress import Advance, progress
from infoscope.scope.controls import PairControls, control_pairs
from infoscope.scope.maps import MapPairs
from infoscope.scope.score import PairScores, score_pairs

# Pairs scored between two reports of progress.
SHARD_PAIRS = 16384
# Our choice: shares of the sensitivity table are then known to three points, at the cost of a few per cent of the rest.
FLOOR_FEATURES = 256


def rank_images(
    executor: Executor,
    images: int,
    shard_images: int,
    config: MeasureConfig,
    partials: Partials,
    groups: Sequence[range],
    cells: int,
) -> RankingFold:
    """Rank every image."""
    crops = config.rank_view == "crops"
    fold = RankingFold(partials, "crops" if crops else "ranking", groups, cells)
    left = [
        range(fold.stop + shard.start, fold.stop + shard.stop) for shard in shards(images - fold.stop, shard_images)
    ]
    jobs = [Job(fold.shard_name(shard), len(shard), "rank_crops" if crops else "rank", (shard,)) for shard in left]
    with progress("Crops" if crops else "Ranking", images, "images") as advance:
        advance(fold.stop)
        for shard, arrays in zip(left, executor.run(jobs, partials, advance), strict=True):
            fold.take(shard, arrays)
    return fold


def map_images(
    executor: Executor,
    wanted: Wanted,
    contents: UInt64[np.ndarray, " image"],
    config: MeasureConfig,
    cells: int,
    shard_images: int,
    partials: Partials,
) -> list[Part]:
    """The maps of every chosen image, as parts for `MapParts`; ``contents`` is what images were like when ranked."""
    # Each pair as often as maps of it are made.
    sampled = [made.sampled for made in map_sets(config) if wanted.main or made.name != MAIN]
    image = np.sort(
        np.concatenate(
            [np.repeat(wanted.image, sampled.count(False)), np.repeat(wanted.sampled_image, sampled.count(True))]
        )
    )
    jobs = []
    for first, stop in _image_shards(image, shard_images, most_pairs(cells)):
        some = wanted.between(int(image[first]), int(image[stop - 1]) + 1)
        if len(contents):
            some = replace(some, contents=contents[some.images])
        # By what is asked: where a ranking is done again on other hardware, maps of the one before do not answer it.
        asked = digest(some.image, some.feature, some.sampled_image, some.sampled_feature)
        jobs.append(Job(f"maps-{int(image[first]):012}-{asked}", len(some.images), "maps", (some,)))
    if not jobs:
        return []
    total = sum(job.size for job in jobs)
    with progress("Crops of the chosen images", total, "images") as advance:
        done = zip(jobs, executor.run(jobs, partials, advance), strict=True)
        return [partials.part(job.name, arrays) for job, arrays in done]


def score_some(
    pairs: MapPairs, grid: int, config: MeasureConfig, advance: Advance, features: int
) -> tuple[PairScores, PairControls]:
    """Score the pairs of whole features, some features at a time: the null goes from pair to pair of one.

    Args:
        pairs: the maps.
        grid: p, patches per side.
        config: the options.
        advance: told how many pairs are done.
        features: features of the dictionary; some of them get distances under floors.
    """
    sampled = floor_sample(features)
    scores, controls = [], []
    for shard in whole_features(pairs.feature, SHARD_PAIRS) or [range(0)]:
        some, reference = _ready(pairs.take(shard), config)
        options = grid, config.shift, config.ground_distance
        scores.append(score_pairs(some, *options, reference))
        controls.append(control_pairs(some, *options, sampled[some.feature], config.empty_as))
        advance(len(shard))
    return PairScores.concatenate(scores), PairControls.concatenate(controls)


def score_without_controls(pairs: MapPairs, grid: int, config: MeasureConfig, advance: Advance) -> PairScores:
    """Score pairs alone, some at a time; see `score_some`."""
    scores = []
    for shard in shards(len(pairs), SHARD_PAIRS) or [range(0)]:
        some, reference = _ready(pairs.take(shard), config)
        scores.append(score_pairs(some, grid, config.shift, config.ground_distance, reference))
        advance(len(shard))
    return PairScores.concatenate(scores)


def _ready(pairs: MapPairs, config: MeasureConfig) -> tuple[MapPairs, Float32[np.ndarray, " pair"]]:
    """Pairs as they are scored, and the activation that retention divides by."""
    reference = pairs.score if config.rank_by == "max" else pairs.peak()
    if config.floor > 0:
        pairs = replace(pairs, first=pairs.first.floored(config.floor), second=pairs.second.floored(config.floor))
    return pairs, reference


def floor_sample(features: int) -> Bool[np.ndarray, " feature"]:
    """The features whose distances are also computed under floors: all, or `FLOOR_FEATURES` spread evenly.

    Example:
        >>> int(floor_sample(100).sum()), int(floor_sample(4096).sum())
        (100, 256)
    """
    sampled = np.zeros(features, np.bool_)
    sampled[sorted(spread_evenly(features, FLOOR_FEATURES))] = True
    return sampled


def whole_features(feature: UInt32[np.ndarray, " pair"], most: int) -> list[range]:
    """Cut pairs ordered by feature into stretches of whole features, of ``most`` pairs unless one feature has more.

    Example:
        >>> whole_features(np.array([0, 0, 3, 3, 3, 7], np.uint32), 4)
        [range(0, 2), range(2, 6)]
    """
    ends = np.append(np.flatnonzero(np.diff(feature)) + 1, len(feature))
    out, first = [], 0
    while first < len(feature):
        fitting = int(np.searchsorted(ends, first + most, side="right")) - 1
        following = int(np.searchsorted(ends, first, side="right"))
        stop = int(ends[max(fitting, following)])
        out.append(range(first, stop))
        first = stop
    return out


def digest(*arrays: np.ndarray) -> str:
    """Twelve digits that tell arrays from others."""
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:12]


def _image_shards(image: np.ndarray, most_images: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut pairs in the order of their images into stretches of whole images, at least one each."""
    # Where each image's pairs begin, and where all end.
    begin = np.append(np.flatnonzero(np.diff(image, prepend=-1)), len(image))
    first = 0
    while first < len(begin) - 1:
        fitting = int(np.searchsorted(begin, begin[first] + most, side="right")) - 1
        stop = min(max(fitting, first + 1), first + most_images)
        yield int(begin[first]), int(begin[min(stop, len(begin) - 1)])
        first = stop
