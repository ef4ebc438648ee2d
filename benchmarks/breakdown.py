"""Where a measurement's time goes: each part alone, a view, as a share of the bare forward pass.

    python benchmarks/breakdown.py

The parts are timed in turns, one process, medians. Decoding runs in threads ahead of the model, and the distances after
the passes; here each is timed by itself: decoding on one thread, the distances and the writing of maps on synthetic
maps of ten patches, shared out over the 3 N views of a thousand images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro

import infoscope
from common import OnPhotographs, Pool, print_table, random_sae, seconds_of
from infoscope.dictionaries.sparse import encode_sparse
from infoscope.images.views import Views
from infoscope.measurement.encode import encode_views
from infoscope.measurement.ranking import Ranking
from infoscope.measurement.scoring import score_with_controls
from infoscope.scope.maps import MapPairs, SparseMaps


@dataclass(frozen=True, kw_only=True)
class Benchmark(OnPhotographs):
    """Options of the benchmark."""

    features: tuple[int, ...] = (4_096, 16_384, 49_152)
    turns: int = 7


def main(options: Benchmark) -> None:
    backbone, images = options.backbone(), Pool(options.files, 16)
    views = Views(backbone.patch_size, backbone.grid)
    timed = ("decode", "normalise", "product", "activation", "ranking", "distances", "writing")
    rows = [
        [f"{features:,}", *parts(backbone, random_sae(backbone, features), images, views, options.turns)]
        for features in options.features
    ]
    print_table("share of the bare forward pass, a view", ("features", "forward, ms", *timed), rows, width=140)


def parts(
    backbone: infoscope.Backbone, sae: infoscope.SparseAutoencoder, images: Pool, views: Views, turns: int
) -> list[str]:
    """One line of the table."""
    batch, patches = backbone.batch_size, backbone.grid**2
    pixels = np.stack([views.full(images[i]) for i in range(batch)])
    normalised = backbone.normalise(pixels)
    tokens = backbone.tokens_from_normalised(normalised).flatten(0, 1)
    codes = encode_views(sae, tokens, patches)
    ranking, seen = Ranking.empty(sae.features, 16), 0

    def products() -> None:
        out = torch.empty(512, sae.features)
        for first in range(0, len(tokens), 512):
            torch.mm(tokens[first : first + 512], sae.W_enc, out=out)

    def rank() -> None:
        nonlocal seen
        ranking.update(np.arange(seen, seen + batch), *codes.reduce("max"), len(tokens))
        seen += batch

    calls: list[Callable[[], object]] = [
        lambda: backbone.tokens_from_normalised(normalised),
        lambda: [views.crops(images[i]) for i in range(batch // 2)],
        lambda: backbone.normalise(pixels),
        products,
        lambda: encode_sparse(sae, tokens, patches),
        rank,
    ]
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(turns + 1):
        for call, seconds in zip(calls, taken, strict=True):
            seconds.append(seconds_of(call) / batch)
    forward, decode, normalise, product, encode, ranked = (median(seconds[1:]) for seconds in taken)
    # Once a measurement, not once a view: shared out over 3 views of a thousand images, as a small pool has them.
    spread = 3 * 1000
    distances, writing = (seconds / spread for seconds in once(sae.features, backbone.grid))
    shares = (decode, normalise, product, encode - product, ranked, distances, writing)
    return [f"{1e3 * forward:.0f}", *(f"{share / forward:.3f}" for share in shares)]


def once(features: int, grid: int) -> tuple[float, float]:
    """Seconds to score 16 pairs of ten patches for every feature, and to write a run of them."""
    count = 16 * features
    random = np.random.default_rng(0)

    def maps() -> SparseMaps:
        start = np.arange(count + 1, dtype=np.int64) * 10
        cell = np.sort(random.integers(0, grid * grid // 10, (count, 10)) + np.arange(10) * (grid * grid // 10), axis=1)
        return SparseMaps(start, cell.astype(np.uint16).ravel(), random.random(10 * count, np.float32) + 0.1, grid**2)

    first = maps()
    kept = random.random(10 * count) < 0.5
    moved = np.where(kept, first.value, random.random(10 * count, np.float32) + 0.1).astype(np.float32)
    second = SparseMaps(first.start, first.patch, moved, first.cells)
    pairs = MapPairs(
        np.repeat(np.arange(features, dtype=np.uint32), 16),
        np.tile(np.arange(16, dtype=np.uint16), features),
        random.integers(0, 1000, count).astype(np.uint64),
        np.ones(count, np.float32),
        first,
        second,
    )
    config = infoscope.MeasureConfig()
    score_with_controls(pairs.take(range(16)), grid, config, lambda steps: None, features)
    scored = seconds_of(lambda: score_with_controls(pairs, grid, config, lambda steps: None, features))
    from infoscope.measurement.tables import maps_table
    from infoscope.runtime.columns import write_table
    from infoscope.runtime.schema import MAPS

    with tempfile.TemporaryDirectory() as out:
        return scored, seconds_of(lambda: write_table(Path(out) / "maps.parquet", maps_table(pairs), MAPS))


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
