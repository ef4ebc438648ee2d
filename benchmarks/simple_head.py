"""The `simple` head's training with one pool of threads and with three, side by side in one process.

L-BFGS takes small steps, each a product of torch's over the rows and two products of the head's size. Where those two,
and the optimiser's own algebra, come from numpy's and scipy's pools of threads, the three pools take the cores from
each other. Prints wall time of both, and how far their heads are apart.

    python benchmarks/simple_head.py
"""

from __future__ import annotations

import os

# As the command line has it; before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median
from unittest.mock import patch

import numpy as np
import tyro

from infoscope.analyses.probes import convex as logistic
from infoscope.analyses.probes.convex import Examples, Fitted, fit_path, moments_of
from infoscope.analyses.probes.recipes import LogisticPath

SHAPES = ((400, 384, 10), (2000, 384, 10), (2000, 768, 100))
SOLVER = LogisticPath((1.0, 0.1, 0.01))


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    turns: int = 3
    """How often each is timed, in turn."""


def main(options: Benchmark) -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| rows | features | classes | three pools | one pool | ratio | heads apart |\n|---|---|---|---|---|---|---|")
    for rows, features, classes in SHAPES:
        examples = make(rows, features, classes)
        # Outside what is timed: modules and threads.
        train(examples, LogisticPath((1.0,), iterations=1))
        spent: dict[str, list[float]] = {"three": [], "one": []}
        heads: dict[str, Fitted] = {}
        for _ in range(options.turns):
            for way in spent:
                with three_pools() if way == "three" else nullcontext():
                    start = time.perf_counter()
                    heads[way] = train(examples, SOLVER)
                    spent[way].append(time.perf_counter() - start)
        three, one = median(spent["three"]), median(spent["one"])
        apart = abs(heads["three"].objective - heads["one"].objective)
        print(f"| {rows} | {features} | {classes} | {three:.2f} s | {one:.2f} s | {three / one:.1f} | {apart:.0e} |")


def make(rows: int, features: int, classes: int) -> Examples:
    random = np.random.default_rng(0)
    values, labels = random.normal(size=(rows, features)).astype(np.float32), random.integers(0, classes, rows)
    values[np.arange(rows), labels] += 2
    return Examples(values, np.eye(classes, dtype=np.float32)[labels], np.ones(rows, np.float32))


def train(examples: Examples, solver: LogisticPath) -> Fitted:
    """The weakest strength's head."""

    def stream() -> Iterator[Examples]:
        yield examples

    return list(fit_path(stream, solver, moments=moments_of(stream)))[-1]


def three_pools() -> AbstractContextManager[object]:
    """As if numpy multiplied the head, and nothing were said to scipy's threads or its own."""
    return patch.multiple(logistic, product=np.matmul, one_blas_thread=nullcontext)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
