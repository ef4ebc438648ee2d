"""The earth mover's distance against POT's exact solver: time per pair and largest disagreement, in one run.

    python benchmarks/emd.py

POT is given each problem in two ways: as two dense maps, which is what a plain implementation passes it, and as the
sparse remainder after common mass is cancelled, which is what this project's own simplex solves. `ot.emd2` is POT's
public function; its compiled solver is also called directly, to tell the algorithm from the cost of a Python call. Both
sides run on one thread, in turns, and the best of several turns counts; a ratio above 1 says that POT takes longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import ot
from ot.lp.emd_wrap import emd_c
from rich.console import Console
from rich.table import Table

from infoscope.scope.emd import emd_pairs
from infoscope.scope.grid import patch_distances
from infoscope.scope.maps import SparseMaps

SIDE = 14
ITERATIONS = 10**8
TURNS = 5

Problem = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Load:
    """Pairs of dense maps, ``[pair, cell]``, under a name."""

    name: str
    first: np.ndarray
    second: np.ndarray


def feature_maps(rng: np.random.Generator, pairs: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps with ``low`` to ``high`` active patches around a centre that stays, drifts or jumps, as features do."""
    cells = np.stack(np.divmod(np.arange(SIDE * SIDE), SIDE), -1)
    centre = rng.uniform(0, SIDE - 1, (pairs, 1, 2))
    moved = centre + rng.normal(size=centre.shape) * rng.choice([0.2, 1.5, 6.0], (pairs, 1, 1))
    maps = []
    for place in (centre, moved):
        near = -np.square(cells - place).sum(-1) / rng.uniform(2, 40, (pairs, 1)) + rng.normal(size=(pairs, len(cells)))
        threshold = np.take_along_axis(np.sort(near), -rng.integers(low, high + 1, (pairs, 1)), axis=1)
        maps.append(np.where(near >= threshold, np.exp(near / 2), 0.0).astype(np.float32).astype(np.float64))
    return maps[0], maps[1]


def loads() -> list[Load]:
    rng = np.random.default_rng(0)
    # Sparse maps store float32: POT gets the same values.
    dense = (0.01 + rng.random((2, 40, SIDE * SIDE))).astype(np.float32).astype(np.float64)
    return [
        Load("5-20 patches", *feature_maps(rng, 1000, 5, 20)),
        Load("20-60 patches", *feature_maps(rng, 400, 20, 60)),
        Load("all 196 patches", dense[0], dense[1]),
    ]


def dense_problem(first: np.ndarray, second: np.ndarray, distances: np.ndarray) -> Problem:
    return first / first.sum(), second / second.sum(), distances


def remaining_problem(first: np.ndarray, second: np.ndarray, distances: np.ndarray) -> Problem:
    difference = first / first.sum() - second / second.sum()
    sources, sinks = np.flatnonzero(difference > 0), np.flatnonzero(difference < 0)
    supply, demand = difference[sources], -difference[sinks]
    return supply, demand * (supply.sum() / demand.sum()), np.ascontiguousarray(distances[np.ix_(sources, sinks)])


def public(problem: Problem) -> float:
    return float(ot.emd2(*problem, numItermax=ITERATIONS))


def compiled(problem: Problem) -> float:
    return float(emd_c(*problem, ITERATIONS, True)[1])


def solve_all(solve: Callable[[Problem], float], problems: list[Problem]) -> list[float]:
    return [solve(problem) for problem in problems]


def best_times(calls: Sequence[Callable[[], object]]) -> list[float]:
    """The shortest time of each call, all of them called in turn."""
    best = [float("inf")] * len(calls)
    for _ in range(TURNS):
        for index, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[index] = min(best[index], time.perf_counter() - start)
    return best


def main() -> None:
    distances = patch_distances(SIDE)
    table = Table(title="time of POT / time of infoscope, per pair, one thread")
    for column in ("maps", "left after cancelling", "us per pair", "emd2, dense", "emd2, remainder"):
        table.add_column(column, justify="right")
    for column in ("solver, dense", "solver, remainder", "largest difference"):
        table.add_column(column, justify="right")
    for load in loads():
        first, second = SparseMaps.from_dense(load.first), SparseMaps.from_dense(load.second)
        dense = [dense_problem(a, b, distances) for a, b in zip(load.first, load.second, strict=True)]
        remaining = [remaining_problem(a, b, distances) for a, b in zip(load.first, load.second, strict=True)]
        ours = emd_pairs(first, second, distances, threads=1)
        difference = max(
            np.abs(ours - solve_all(public, dense)).max(), np.abs(ours - solve_all(public, remaining)).max()
        )
        own, *theirs = best_times(
            [
                partial(emd_pairs, first, second, distances, threads=1),
                *(partial(solve_all, solve, kind) for solve in (public, compiled) for kind in (dense, remaining)),
            ]
        )
        sizes = np.mean([problem[2].shape for problem in remaining], axis=0)
        table.add_row(
            load.name,
            f"{sizes[0]:.0f} x {sizes[1]:.0f}",
            f"{1e6 * own / len(ours):.1f}",
            *(f"{other / own:.1f}" for other in theirs),
            f"{difference:.0e}",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
