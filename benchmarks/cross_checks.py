"""What each option that costs passes adds to a measurement.

    python benchmarks/cross_checks.py --sae runs/real/sae

Measures the same photographs with each option in turns, in one process, and prints seconds over those of `--shift 2`
alone: of the processor, so that other work on the machine matters less, and by stage. Views are those of the model: one
a photograph for the ranking, and those cut from each chosen one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import tyro

import infoscope
from common import DATA, OnPhotographs, Pool, print_table
from infoscope.measurement.map_sets import cuts_of, map_sets

OPTIONS: dict[str, dict[str, Any]] = {
    "--shift 2": {},
    "--shift 1,2,3,4": {"shifts": (1, 2, 3, 4)},
    "--map-activation pre": {"map_activation": "pre"},
    "--quantile-images 16": {"quantile_images": 16},
    "--control position-matched": {"control": "position-matched"},
    "--diagonal both": {"diagonal": "both"},
}


@dataclass(frozen=True, kw_only=True)
class Benchmark(OnPhotographs):
    """Options of the benchmark."""

    sae: Path
    images: Path = DATA / "data" / "imagenette" / "val"
    count: int = 80
    rounds: int = 2


def main(options: Benchmark) -> None:
    backbone = options.backbone("cpu")
    sae = infoscope.load_sae(options.sae)
    every = {name for chosen in OPTIONS.values() for name in chosen.items()}
    infoscope.measure_scope(backbone, sae, Pool(options.files, 4), **dict(every))  # compiles
    images = Pool(options.files, options.count)
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in OPTIONS}
    for _ in range(options.rounds):
        for name, chosen in OPTIONS.items():
            start = time.process_time()
            scope = infoscope.measure_scope(backbone, sae, images, **chosen)
            taken[name].append({"all": time.process_time() - start, **scope.manifest.timings})
    rows = []
    for name, chosen in OPTIONS.items():
        views = 1 + len(cuts_of(map_sets(infoscope.MeasureConfig(**chosen))))
        ratios = [one["all"] / base["all"] for one, base in zip(taken[name], taken["--shift 2"], strict=True)]
        stages = [f"{median(one.get(stage, 0.0) for one in taken[name]):.1f}" for stage in ("maps", "cross-checks")]
        seconds = median(one["all"] for one in taken[name])
        rows.append([name, str(views), f"{seconds:.1f}", f"{median(ratios):.2f}", *stages])
    title = f"{options.count} photographs, {sae.features:,} features; processor's seconds over --shift 2's"
    print_table(title, ("option", "views", "seconds", "ratio", "maps, wall", "cross-checks, wall"), rows, left=1)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
