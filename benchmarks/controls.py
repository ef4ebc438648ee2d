"""What the controls cost: their time on a finished run's own maps, as a share of that run's.

    python benchmarks/controls.py --run runs/real/scope

In turns with one batch of the run's own bare forward passes, scores and controls are computed again from its maps, with
all threads as in a measurement, and the features judged. Seconds are the processor's, of all threads together, so that
other work on the machine counts for little; medians. The run without controls is taken to be its
forward passes at the speed timed here, one for every image and two for every chosen one, and its scores; what else a
measurement does would only make the share smaller. The stages of the run's manifest are printed beside.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import torch
import tyro
from rich.console import Console

import infoscope
from common import print_table
from infoscope.measurement.scoring import SHARD_PAIRS, floor_sample, whole_features
from infoscope.scope.controls import PairControls, control_features, control_pairs
from infoscope.scope.geometry import Geometry
from infoscope.scope.maps import MapPairs, SparseMaps
from infoscope.scope.score import FeatureScores, PairScores, score_features, score_pairs
from infoscope.scope.threshold_rules import classify, share_moves
from infoscope.scope.trust import judge_trust


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    run: Path
    """A finished run; its tables are read as they are, whatever its version."""
    turns: int = 3


def read_pairs(run: Path, cells: int) -> MapPairs:
    """All pairs of a run."""
    rows = pl.read_parquet(run / "maps.parquet").sort("feature", "rank", "crop")
    ranked = pl.read_parquet(run / "top_images.parquet").sort("feature", "rank")

    def crop(number: int) -> SparseMaps:
        some = rows.filter(pl.col("crop") == number)
        start = np.concatenate([[0], some["patch"].list.len().cum_sum().to_numpy()]).astype(np.int64)
        patch, value = (some[name].list.explode().drop_nulls().to_numpy() for name in ("patch", "value"))
        return SparseMaps(start, patch, value, cells)

    feature, rank, image, score = (ranked[name].to_numpy() for name in ("feature", "rank", "image", "score"))
    return MapPairs(feature, rank, image, score, crop(0), crop(1))


def main(options: Benchmark) -> None:
    manifest = json.loads((options.run / "manifest.json").read_text())
    asked, features = manifest["options"], manifest["dictionary"]["features"]
    geometry = Geometry(manifest["model"]["grid"], asked["shift"], asked["ground_distance"])
    pairs = read_pairs(options.run, geometry.grid**2)
    stretches = [pairs.take(stretch) for stretch in whole_features(pairs.feature, SHARD_PAIRS)]
    sampled = floor_sample(features)
    backbone = infoscope.load_backbone(manifest["model"]["name"], manifest["model"]["block"])
    side = geometry.grid * manifest["model"]["patch_size"]
    batch = torch.randn(backbone.batch_size, 3, side, side)
    parts = "forward passes", "scores", "controls", "scores, by feature", "judging"
    found: dict[str, list[float]] = {part: [] for part in parts}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = call()
        found[name].append(time.process_time() - start)
        return result

    grid = geometry.grid, geometry.shift, geometry.metric
    least, k, empty_as = asked["min_pairs"], asked["top_images"], asked["empty_as"]

    def judge(scores: PairScores, controls: PairControls, table: FeatureScores) -> list[str]:
        owner, rank = pairs.feature, pairs.rank
        by_feature = control_features(controls, scores, table, owner, rank, k, least, geometry.largest, empty_as)
        moves = share_moves(scores, controls, owner, features, geometry)
        classes = classify(table, by_feature, moves, geometry, least)
        judge_trust(classes.names, table, by_feature, moves, geometry, k, manifest["fit"]["fvu"], 0.9)
        return list(classes.names)

    names: list[str] = []
    for _ in range(options.turns + 1):
        timed("forward passes", lambda: backbone.tokens_from_normalised(batch))
        scored = timed("scores", lambda: [score_pairs(some, *grid) for some in stretches])
        controlled = timed(
            "controls", lambda: [control_pairs(some, *grid, sampled[some.feature], empty_as) for some in stretches]
        )
        scores, controls = PairScores.concatenate(scored), PairControls.concatenate(controlled)
        table = timed("scores, by feature", partial(score_features, scores, pairs.feature, features, least))
        names = timed("judging", partial(judge, scores, controls, table))
    seconds = {name: median(times[1:]) for name, times in found.items()}
    views = manifest["images"]["count"] + 2 * len(np.unique(pairs.image))
    seconds["forward passes"] *= views / len(batch)
    whole = seconds["forward passes"] + seconds["scores"] + seconds["scores, by feature"]
    extra = seconds["controls"] + seconds["judging"]
    console = Console()
    codes = len(pairs.first.patch) / len(pairs)
    title = f"{len(pairs):,} pairs of {features:,} features, {codes:.1f} codes a map; {views:,} views"
    costs = seconds | {"controls and judging": extra}
    rows = [[name, f"{took:.2f}", f"{took / whole:.2%}"] for name, took in costs.items()]
    print_table(title, ("part", "seconds", "of the run without controls"), rows, left=1)
    console.print("stages of the run itself:", manifest["timings"])
    console.print({name: names.count(name) for name in sorted(set(names))})


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
