"""The measures of a run's features: in full, in quantile groups, and by the even and the odd ranks of its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float64

from infoscope.analyses.predictors.config import BEYOND_COSINE, COSINE, MEASURES
from infoscope.analyses.predictors.ranks import beyond
from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.errors import InfoscopeError
from infoscope.options import EmptyPairs, Metric
from infoscope.runtime.partials import Arrays, Partials, shards
from infoscope.runtime.progress import progress
from infoscope.runtime.run import MAPS_FILE, Run
from infoscope.scope.companions import compare_maps
from infoscope.scope.controls import calibrated
from infoscope.scope.emd import partner_distances
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import MapPairs, SparseMaps, next_valid, overlap_maps
from infoscope.scope.score import feature_mean, score_pairs

# Features whose maps are in memory together. Our choice: of a TopK 32 SAE and k = 32 some 100 MB.
CHUNK_FEATURES = 2048
# Not made of the pairs of maps: how often a feature is active is counted over all tokens of all images.
NOT_BY_HALVES = ("density",)
HALVES = ("even", "odd")

Measures = Mapping[str, Float64[np.ndarray, " feature"]]


def read_measures(run: Run) -> dict[str, Float64[np.ndarray, " feature"]]:
    """The measures of a run's features, NaN where one is not defined.

    Raises:
        InfoscopeError: no feature has a CDS.
    """
    found: dict[str, np.ndarray] = {
        name: run.scope[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in MEASURES
    }
    if np.isnan(found["cds"]).all():
        raise InfoscopeError(f"{run.path} has no CDS of any feature: measure again, on more images")
    return found


def quantile_groups(
    measures: Mapping[str, Float64[np.ndarray, " feature"]], name: str, count: int
) -> list[FeatureGroup]:
    """The features with a measure, in groups of equally many from the lowest values to the highest.

    Ties go by feature, so that groups are equally large.

    Args:
        measures: the run's measures.
        name: one of them, or `BEYOND_COSINE`.
        count: how many groups.

    Raises:
        InfoscopeError: fewer features have the measure than there are to be groups.

    Example:
        >>> groups = quantile_groups({"cds": np.array([0.3, np.nan, 0.1, 0.2, 0.4])}, "cds", 2)
        >>> [(group.name, group.features.tolist()) for group in groups]
        [('cds, 1 of 2', [2, 3]), ('cds, 2 of 2', [0, 4])]
    """
    values = beyond(measures["cds"], measures[COSINE]) if name == BEYOND_COSINE else measures[name]
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]  # NaN is sorted last
    if len(order) < count:
        raise InfoscopeError(f"{len(order)} features have a {name}, too few for {count} groups: lower --quantiles")
    parts = np.array_split(order, count)
    return [
        FeatureGroup(f"{name}, {number} of {count}", "rule", np.sort(part).astype(np.uint32))
        for number, part in enumerate(parts, 1)
    ]


@dataclass(frozen=True)
class MapOptions:
    """What of a run's options the measures of its maps depend on.

    Attributes:
        grid: p, patches per side.
        shift: s, patches between the two crops.
        metric: ground distance between patches.
        empty_as: what a pair with exactly one empty map counts as.
        floor: share of a map's maximum under which codes count as 0.
        min_pairs: valid pairs that CDS needs.
    """

    grid: int
    shift: int
    metric: Metric
    empty_as: EmptyPairs
    floor: float
    min_pairs: int

    @classmethod
    def of(cls, run: Run) -> MapOptions:
        """Those of a run."""
        options = run.manifest.options
        least = options.get("min_pairs") or (int(options["top_images"]) + 1) // 2
        return cls(
            run.manifest.model.grid,
            int(options["shift"]),
            options["ground_distance"],
            options["empty_as"],
            float(options["floor"]),
            int(least),
        )


def measures_by_half(run: Run, kept: Path | None = None) -> dict[str, Measures]:
    """The measures of every feature by its even and by its odd ranks, NaN where a half has too few pairs.

    A half needs half of the valid pairs that a score needs, and its null is between its own pairs, so that the two have
    no image in common. `NOT_BY_HALVES` are left out.

    Args:
        run: the run, whose maps are read.
        kept: the folder of finished chunks; None to keep none.

    Raises:
        InfoscopeError: the run has no maps, or they are damaged.
    """
    options = MapOptions.of(run)
    partials = Partials(kept)
    features = run.manifest.dictionary.features
    names = [name for name in MEASURES if name not in NOT_BY_HALVES]
    found = {half: {name: np.full(features, np.nan) for name in names} for half in HALVES}
    with progress(f"Halves of {run.path / MAPS_FILE}", features, "features") as advance:
        for chunk in shards(features, CHUNK_FEATURES):

            def compute(chunk: range = chunk) -> Arrays:
                pairs = read_pairs(run, chunk)
                halves = {
                    half: measure_pairs(pairs.take(np.flatnonzero(pairs.rank % 2 == parity)), chunk, half_of(options))
                    for parity, half in enumerate(HALVES)
                }
                return {f"{half}-{name}": halves[half][name] for half in HALVES for name in names}

            arrays = partials.get_or_compute(f"halves-{chunk.start:08}", compute)
            for half in HALVES:
                for name in names:
                    found[half][name][chunk.start : chunk.stop] = arrays[f"{half}-{name}"]
            advance(len(chunk))
    return {half: dict(measures) for half, measures in found.items()}


def half_of(options: MapOptions) -> MapOptions:
    """The options for half of the images."""
    return replace(options, min_pairs=(options.min_pairs + 1) // 2)


def read_pairs(run: Run, features: range) -> MapPairs:
    """The pairs of maps of some features.

    Their ranking scores, which no measure here rests on, are 1.

    Raises:
        InfoscopeError: the maps are damaged.
    """
    wanted = (pl.col("feature") >= features.start) & (pl.col("feature") < features.stop)
    maps = run.maps_where(wanted).sort("feature", "rank", "crop")
    first, second = (maps.filter(pl.col("crop") == crop) for crop in (0, 1))
    cells = run.manifest.model.grid**2
    feature, rank = np.array(first["feature"]), np.array(first["rank"])
    ours, theirs = _sparse(first, cells), _sparse(second, cells)
    ones = np.ones(len(feature), np.float32)
    return MapPairs(feature, rank, np.zeros(len(feature), np.uint64), ones, ours, theirs)


def _sparse(maps: pl.DataFrame, cells: int) -> SparseMaps:
    start = np.concatenate([[0], np.cumsum(maps["patch"].list.len().to_numpy().astype(np.int64))])
    filled = maps.filter(pl.col("patch").list.len() > 0)  # an empty list explodes into a null
    patch = np.array(filled["patch"].explode(), np.uint16)
    return SparseMaps(start.astype(np.int64), patch, np.array(filled["value"].explode(), np.float32), cells)


def measure_pairs(pairs: MapPairs, features: range, options: MapOptions) -> dict[str, Float64[np.ndarray, " feature"]]:
    """The measures that are made of pairs of maps, of each feature of a chunk, as ``scope.parquet`` has them.

    Args:
        pairs: the pairs of these features, and no others.
        features: the features.
        options: how maps are compared.
    """
    grid, shift, metric = options.grid, options.shift, options.metric
    if options.floor > 0:
        pairs = replace(pairs, first=pairs.first.floored(options.floor), second=pairs.second.floored(options.floor))
    distances = patch_distances(grid - shift, metric)
    scores = score_pairs(pairs, grid, shift, metric)
    first, second = overlap_maps(pairs.first, pairs.second, grid, shift)
    companions = compare_maps(first, second, grid - shift, distances)
    feature = (pairs.feature - np.uint32(features.start)).astype(np.uint32)

    def mean(values: Float64[np.ndarray, " pair"], least: int = 1) -> Float64[np.ndarray, " feature"]:
        return feature_mean(values, ~np.isnan(values), feature, len(features), least)

    # Of each valid pair's first map and the next valid pair's second one (method, section 4).
    partner = next_valid(pairs.feature, ~np.isnan(scores.emd))
    null = mean(partner_distances(first, second, partner, distances, float(distances.max())), 2)
    return {
        "cds": mean(scores.distances(options.empty_as), options.min_pairs),
        "cds_calibrated": calibrated(mean(scores.emd, options.min_pairs), null, float(distances.max())),
        "cosine_distance": mean(scores.cosine_distance),
        "effective_area": mean(scores.effective_area),
        **{
            name: mean(getattr(companions, name))
            for name in ("jensen_shannon", "entropy", "moran", "peak_displacement")
        },
    }
