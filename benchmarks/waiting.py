"""What it is worth that threads sleep while they wait (`OMP_WAIT_POLICY=passive`), as the command line has it.

Steps of training, which go from torch's threads to numba's and back. Each measurement is a process of its own, since
the policy is read as torch is loaded; both policies take turns, with processes beside them that keep cores busy.

    python benchmarks/waiting.py --busy 2
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median

import tyro

WIDTH, FEATURES, TOKENS = 384, 2048, 1024


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    busy: int = 2
    """Processes that do nothing but take a core each."""
    turns: int = 3
    steps: int = 20
    one: bool = False
    """A single measurement in this process; used by the benchmark itself."""


def main(options: Benchmark) -> None:
    if options.one:
        print(json.dumps(seconds_a_step(options.steps)))
        return
    clean = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    command = [sys.executable, __file__, "--one", "--steps", str(options.steps)]
    spent: dict[str, list[float]] = {"spinning": [], "sleeping": []}
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    try:
        for _ in range(options.turns):
            for way, found in spent.items():
                environment = clean | ({"OMP_WAIT_POLICY": "passive"} if way == "sleeping" else {})
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                found.append(json.loads(done.stdout))
    finally:
        for each in beside:
            each.kill()
            each.wait()
    spinning, sleeping = median(spent["spinning"]), median(spent["sleeping"])
    ratios = [a / b for a, b in zip(spent["spinning"], spent["sleeping"], strict=True)]
    print(f"{os.cpu_count()} cores, {options.busy} busy processes beside it, load {os.getloadavg()[0]:.1f}")
    print("| spinning, a step | sleeping, a step | ratio | rounds |\n|---|---|---|---|")
    rounds = ", ".join(f"{ratio:.1f}" for ratio in ratios)
    print(f"| {1e3 * spinning:.0f} ms | {1e3 * sleeping:.0f} ms | {spinning / sleeping:.1f} | {rounds} |")


def seconds_a_step(steps: int) -> float:
    """Wall time of a step after some that are not counted."""
    import torch

    from infoscope.training.config import TrainConfig
    from infoscope.training.loop import train_on_tokens

    tokens = [torch.randn(8 * TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))]
    ends: list[float] = []
    config = TrainConfig(features=FEATURES, k=16, tokens=(steps + 5) * TOKENS, batch_tokens=TOKENS, log_every=1)
    train_on_tokens(tokens, config, on_progress=lambda *_: ends.append(time.perf_counter()))
    return (ends[-1] - ends[4]) / (len(ends) - 5)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
