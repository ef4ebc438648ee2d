"""How often the 95 % interval of CDS holds the expectation it is an interval of, for several numbers of pairs.

    python benchmarks/intervals.py --run runs/real/scope

Two populations of pair distances whose expectation is known. The first is every pair distance of a finished run, drawn
from with replacement: the expectation is their mean. The second is drawn by construction: a peak on a square grid stays
on its pixels, or with a given chance lands anywhere, so that the expectation is the mean distance of two independent
patches (method, section 3) times the chance of a jump. Percentile intervals are printed beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import tyro
from scipy.stats import skew

from common import print_table
from infoscope.scope.geometry import patch_distances
from infoscope.scope.interval import mean_interval


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    run: Path | None = None
    """A finished run, for the distances of its pairs."""
    samples: int = 4000
    """Samples to each number of pairs; a coverage of 95 % is then known to 0.7 points (two standard errors)."""
    sizes: tuple[int, ...] = (8, 16, 32, 64)
    jumps: tuple[float, ...] = (0.2, 0.5, 1.0)
    """Chances of a jump."""
    side: int = 12
    seed: int = 0


def jumping(rng: np.random.Generator, shape: tuple[int, int], chance: float, side: int) -> np.ndarray:
    """Distances over D of peaks that stay, or land anywhere with a chance."""
    distances = patch_distances(side)
    before, after = rng.integers(0, side * side, (2, *shape))
    moved: np.ndarray = np.where(rng.random(shape) < chance, distances[before, after], 0.0) / distances.max()
    return moved


def percentile_interval(samples: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The plain bootstrap's, for comparison."""
    size = samples.shape[1]
    weights = rng.multinomial(size, np.full(size, 1 / size), size=999) / size
    means = samples @ weights.T
    lower, upper = np.quantile(means, [0.025, 0.975], axis=1)
    return lower, upper


def coverage(samples: np.ndarray, expected: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Shares of intervals that hold the expectation, and their mean widths: bootstrap-t's, then percentile's."""
    count, size = samples.shape
    found = mean_interval(samples.ravel(), np.arange(0, count * size + 1, size))
    plain = percentile_interval(samples, rng)
    held = [float(np.mean((lower <= expected) & (expected <= upper))) for lower, upper in (found, plain)]
    width = [float(np.mean(upper - lower)) for lower, upper in (found, plain)]
    return held[0], width[0], held[1], width[1]


def main(options: Benchmark) -> None:
    rng = np.random.default_rng(options.seed)
    rows = []
    if options.run is not None:
        emd = pl.read_parquet(options.run / "top_images.parquet")["emd"].drop_nulls().to_numpy()
        for size in options.sizes:
            row = coverage(rng.choice(emd, (options.samples, size)), float(emd.mean()), rng)
            named = f"{len(emd):,} of a run", f"{emd.mean():.3f}", f"{skew(emd):.1f}", str(size)
            rows.append([*named, *(f"{value:.3f}" for value in row)])
    distances = patch_distances(options.side)
    unrelated = float(distances.mean() / distances.max())
    for chance in options.jumps:
        many = skew(jumping(rng, (1000, 1000), chance, options.side).ravel())
        for size in options.sizes:
            samples = jumping(rng, (options.samples, size), chance, options.side)
            row = coverage(samples, chance * unrelated, rng)
            named = f"jumps with chance {chance}", f"{chance * unrelated:.3f}", f"{many:.1f}", str(size)
            rows.append([*named, *(f"{value:.3f}" for value in row)])
    heads = ("distances", "expectation", "skew", "k", "bootstrap-t", "its width", "percentile", "its width")
    print_table(f"coverage of 95 % intervals, {options.samples:,} samples each", heads, rows, left=1)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
