"""The earth mover's distance against POT's exact solver: time per pair and largest disagreement, in one run.

    python benchmarks/emd.py --run runs/real/scope

POT is given each problem in three ways: two maps of the full grid, which is what a plain implementation passes it; the
two maps' supports; and the remainder after common mass is cancelled, which is what this project's own simplex solves,
there by POT's compiled solver called directly, so that the algorithm can be told from the cost of a Python call. Both
sides run on one thread, in turns, and medians count; a ratio above 1 says that POT takes longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import ot
import tyro
from ot.lp.emd_wrap import emd_c

import infoscope
from common import in_turns, print_table, seconds_of
from infoscope.scope.emd import emd_pairs
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import SparseMaps

ITERATIONS = 10**8
TURNS = 5
TURN_SECONDS = 0.4

Problem = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    run: Path | None = None
    """A run directory whose maps are the real ones."""
    pairs: int = 4000
    """Real pairs, spread over the run's features."""


@dataclass(frozen=True)
class Load:
    """Pairs of dense maps, ``[pair, cell]``, under a name; what ratios are asked of them."""

    name: str
    side: int
    first: np.ndarray
    second: np.ndarray
    target: str


def real_load(run: infoscope.Run, pairs: int) -> Load:
    """Pairs of a run with mass in both crops, on the overlap."""
    grid, shift = run.manifest.model.grid, run.manifest.options["shift"]
    wide = run.maps.pivot("crop", index=["feature", "rank"], values=["patch", "value"])
    wide = wide.gather(np.linspace(0, len(wide) - 1, min(2 * pairs, len(wide))).astype(np.int64))
    crops = []
    for crop, offset in ((0, shift), (1, 0)):
        dense = np.zeros((len(wide), grid * grid))
        for row, (patch, value) in enumerate(wide.select(f"patch_{crop}", f"value_{crop}").iter_rows()):
            dense[row, patch] = value
        side = slice(offset, offset + grid - shift)
        crops.append(dense.reshape(-1, grid, grid)[:, side, side].reshape(len(wide), -1))
    both = np.flatnonzero((crops[0].sum(1) > 0) & (crops[1].sum(1) > 0))[:pairs]
    return Load(f"real, {len(both)} pairs", grid - shift, crops[0][both], crops[1][both], "30 and 15")


def random_load(rng: np.random.Generator, side: int, share: float, pairs: int, target: str) -> Load:
    """Independent maps with a share of the cells active."""
    maps = (0.01 + rng.random((2, pairs, side * side))) * (rng.random((2, pairs, side * side)) < share)
    maps[0, :, 0] += 1e-3  # never empty
    maps[1, :, -1] += 1e-3
    # Sparse maps store float32: POT gets the same values.
    first, second = maps.astype(np.float32).astype(np.float64)
    return Load(f"{share:.0%} of {side} x {side}", side, first, second, target)


def loads(options: Benchmark) -> list[Load]:
    rng = np.random.default_rng(0)
    chosen = [] if options.run is None else [real_load(infoscope.open_run(options.run), options.pairs)]
    for side, pairs, target in ((12, 60, "6"), (14, 40, "6"), (22, 12, "8"), (35, 3, "8")):
        chosen.append(random_load(rng, side, 1.0, pairs, target))
    for share in (0.2, 0.5):
        for side, pairs in ((12, 200), (14, 120), (18, 60), (22, 30)):
            chosen.append(random_load(rng, side, share, pairs, "5"))
    return chosen


def dense_problem(first: np.ndarray, second: np.ndarray, distances: np.ndarray) -> Problem:
    return first / first.sum(), second / second.sum(), distances


def support_problem(first: np.ndarray, second: np.ndarray, distances: np.ndarray) -> Problem:
    sources, sinks = np.flatnonzero(first), np.flatnonzero(second)
    supply, demand = first[sources] / first.sum(), second[sinks] / second.sum()
    return supply, demand, np.ascontiguousarray(distances[np.ix_(sources, sinks)])


def remaining_problem(first: np.ndarray, second: np.ndarray, distances: np.ndarray) -> Problem:
    difference = first / first.sum() - second / second.sum()
    sources, sinks = np.flatnonzero(difference > 0), np.flatnonzero(difference < 0)
    supply, demand = difference[sources], -difference[sinks]
    return (
        supply,
        demand * (supply.sum() / max(demand.sum(), 1e-300)),
        np.ascontiguousarray(distances[np.ix_(sources, sinks)]),
    )


def public(problem: Problem) -> float:
    return float(ot.emd2(*problem, numItermax=ITERATIONS))


def compiled(problem: Problem) -> float:
    return float(emd_c(*problem, ITERATIONS, True)[1])


def solve_all(solve: Callable[[Problem], float], problems: list[Problem]) -> list[float]:
    return [solve(problem) for problem in problems]


def row(load: Load) -> list[str]:
    """One line of the table."""
    distances = patch_distances(load.side)
    first, second = SparseMaps.from_dense(load.first), SparseMaps.from_dense(load.second)
    kinds = [
        [make(a, b, distances) for a, b in zip(load.first, load.second, strict=True)]
        for make in (dense_problem, support_problem, remaining_problem)
    ]
    ours = emd_pairs(first, second, distances, threads=1)
    difference = np.abs(ours - solve_all(public, kinds[0])).max()
    # Solved several times over, so that a turn is long enough to be timed and to be shared by two threads.
    repeats = math.ceil(TURN_SECONDS / seconds_of(partial(emd_pairs, first, second, distances, threads=1)))
    many = SparseMaps.from_dense(np.tile(load.first, (repeats, 1)))
    many_second = SparseMaps.from_dense(np.tile(load.second, (repeats, 1)))
    calls: dict[str, Callable[[], object]] = {
        "own": partial(emd_pairs, many, many_second, distances, threads=1),
        "two": partial(emd_pairs, many, many_second, distances, threads=2),
        "grid": partial(solve_all, public, kinds[0]),
        "supports": partial(solve_all, public, kinds[1]),
        # Equal maps leave nothing, and the compiled solver does not take it.
        "remainder": partial(solve_all, compiled, [problem for problem in kinds[2] if problem[2].size]),
    }
    own, two, *theirs = map(median, in_turns(calls, TURNS).values())
    sizes = np.mean([problem[2].shape for problem in kinds[2]], axis=0)
    return [
        load.name,
        f"{sizes[0]:.0f} x {sizes[1]:.0f}",
        f"{1e6 * own / len(ours) / repeats:.1f}",
        *(f"{other / own * repeats:.1f}" for other in theirs),
        load.target,
        f"{own / two:.2f}",
        f"{difference:.0e}",
    ]


def main(options: Benchmark) -> None:
    heads = ["maps", "left after cancelling", "us per pair", "emd2, grid", "emd2, supports", "solver, remainder"]
    heads += ["asked", "two threads", "largest difference"]
    title = "time of POT / time of infoscope, per pair, one thread, medians"
    print_table(title, heads, map(row, loads(options)), width=150)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
