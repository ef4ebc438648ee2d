"""Throughput of two single-threaded Ray workers over one, and over no Ray at all, in one run.

    python benchmarks/workers.py --sae runs/real/sae

The ranking pass of the same photographs, in turns; each cluster has as many cores as workers, and its workers have
loaded what they need before the clock starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import ray
import torch
import tyro

import infoscope
from common import OnPhotographs, Pool, seconds_of
from infoscope.measurement.passes import Passes, Target
from infoscope.runtime.executor import Job, LocalExecutor, limit_threads
from infoscope.runtime.partials import Partials, shards
from infoscope.runtime.ray import RayExecutor

SHARD = 8


@dataclass(frozen=True, kw_only=True)
class Benchmark(OnPhotographs):
    """Options of the benchmark."""

    sae: Path
    count: int = 96
    rounds: int = 3


def main(options: Benchmark) -> None:
    target = Target(options.backbone("cpu"), infoscope.load_sae(options.sae))
    pool = Pool(options.files, options.count)
    batch_size = target.backbone.batch_size
    passes = Passes((target,), pool, infoscope.MeasureConfig(), frozenset(), batch_size, threads=1)
    jobs = [Job(f"ranking-{shard.start}", len(shard), Passes.rank, (shard,)) for shard in shards(options.count, SHARD)]
    seconds: dict[str, list[float]] = {"no Ray, 1 thread": [], "1 worker": [], "2 workers": []}
    for _ in range(options.rounds):
        threads = torch.get_num_threads()
        limit_threads(1)
        seconds["no Ray, 1 thread"].append(timed(lambda: LocalExecutor(passes), jobs, 1))
        limit_threads(threads)
        for workers, name in ((1, "1 worker"), (2, "2 workers")):
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            seconds[name].append(timed(lambda workers=workers: RayExecutor(passes, workers), jobs, workers))  # type: ignore[misc]
            ray.shutdown()
    for name, taken in seconds.items():
        print(f"{name}: {options.count / median(taken):.1f} images a second")
    for over in ("1 worker", "no Ray, 1 thread"):
        ratios = [one / two for one, two in zip(seconds[over], seconds["2 workers"], strict=True)]
        print(f"2 workers over {over}: {', '.join(f'{r:.2f}' for r in ratios)}; median {median(ratios):.2f}")


def timed(make: Callable[[], LocalExecutor | RayExecutor], jobs: list[Job], workers: int) -> float:
    """Seconds for all jobs, once every worker has done one."""
    executor = make()
    list(executor.run(jobs[:workers], Partials(None), lambda steps=1, note="": None))
    seconds = seconds_of(lambda: list(executor.run(jobs, Partials(None), lambda steps=1, note="": None)))
    if isinstance(executor, RayExecutor):
        executor.__exit__(None, None, None)
    return seconds


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
