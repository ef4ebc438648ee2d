"""What `measure` costs over the forward passes it cannot do without, and whether it still tells the truth.

    python benchmarks/pipeline.py --sae runs/real/sae
    python benchmarks/pipeline.py --features 49152

Prints, from one run: the wall time of `measure_scope` over that of the bare forward passes for the same number of views
(stopped at the block, pixels normalised and in memory, the best batch of 8, 16 and 32, timed before and after each
round), and over those and one dense encoder product a view; peak memory for two pool sizes; and the largest
disagreement with the definition in tests/reference.py.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Literal

import numpy as np
import torch
import tyro

import infoscope
from common import OnPhotographs, Pool, random_sae
from infoscope.images.source import ImageSource
from infoscope.images.views import Views

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from reference import Reference, emd

VIEWS, REPEATS = 64, 4


@dataclass(frozen=True, kw_only=True)
class Benchmark(OnPhotographs):
    """Options of the benchmark."""

    sae: Path | None = None
    """An SAE for the model and block below; without one, a random one of --features is measured."""
    features: int = 49_152
    activation: Literal["topk", "relu"] = "topk"
    count: int = 192
    """Photographs in the pool, spread over the folder."""
    rounds: int = 3
    agreement: bool = True
    """Also compare every feature with the definition."""
    memory: bool = True
    """Also print peak memory, for the pool and for one twice as large."""
    peak_of: int | None = None
    """Measure a pool of this size and print peak memory; used by the benchmark itself."""


def main(options: Benchmark) -> None:
    files, backbone = options.files, options.backbone()
    sae = infoscope.load_sae(options.sae) if options.sae else random_sae(backbone, options.features, options.activation)
    if options.peak_of is not None:
        measure(backbone, sae, Pool(files, options.peak_of))
        import resource

        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    images = Pool(files, options.count)
    measure(backbone, sae, Pool(files, 16))  # compiles
    print(f"{len(images)} photographs, {sae.features} features, {torch.get_num_threads()} threads")
    views = Views(backbone.patch_size, backbone.grid)
    normalised = backbone.normalise(np.stack([views.full(images[i % len(images)]) for i in range(VIEWS)]))
    for rank_view, passes in (("full", 3), ("crops", 2)):
        bare = Bare()
        bare.time(backbone, sae, normalised)
        walls = []
        for _ in range(options.rounds):
            start = time.perf_counter()
            scope = measure(backbone, sae, images, rank_view)
            walls.append((time.perf_counter() - start) / (passes * len(images)))
            bare.time(backbone, sae, normalised)
        passed = len(images) + 2 * scope.top_images["image"].n_unique() if rank_view == "full" else 2 * len(images)
        assert passed == passes * len(images), "not every photograph was chosen: the pool is too large for this count"
        print_ratios(rank_view, passes, walls, bare, scope)
        if options.agreement and options.sae and rank_view == "full":
            print_agreement(options, scope, images.files)
    if options.memory:
        peaks = [peak(options, count) for count in (options.count, 2 * options.count)]
        print(f"peak memory: {peaks[0]} MiB for {options.count} photographs, {peaks[1]} MiB for {2 * options.count}")


def print_ratios(rank_view: str, passes: int, walls: list[float], bare: Bare, scope: infoscope.Scope) -> None:
    """Round by round, against what was timed just before and just after."""
    around = [bare.around(number) for number in range(len(walls))]
    for name, ratios in (
        ("the forward passes", [wall / forward for wall, (forward, _) in zip(walls, around, strict=True)]),
        ("forward + encoder product", [wall / sum(both) for wall, both in zip(walls, around, strict=True)]),
    ):
        rounds = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"rank view {rank_view}: measure over {passes} N of {name}: {rounds}; median {median(ratios):.3f}")
    print(f"  product over forward {median([product / forward for forward, product in around]):.3f}")
    print(f"  seconds of the last round {scope.manifest.timings}")


def measure(
    backbone: infoscope.Backbone, sae: infoscope.SparseAutoencoder, images: ImageSource, rank_view: str = "full"
) -> infoscope.Scope:
    """A measurement as the command line makes it, without the directory."""
    return infoscope.measure_scope(backbone, sae, images, rank_view=rank_view)


@dataclass
class Bare:
    """The passes `measure` cannot do without: seconds a view by batch size, and of one dense encoder product."""

    forward: dict[int, list[float]] = field(default_factory=dict)
    product: list[float] = field(default_factory=list)

    def time(self, backbone: infoscope.Backbone, sae: infoscope.SparseAutoencoder, normalised: torch.Tensor) -> None:
        """Once over the views with every batch size."""
        sae = sae.to(backbone.device)
        for batch in (8, 16, 32):
            synchronise(backbone)
            start = time.perf_counter()
            for first in range(0, len(normalised), batch):
                tokens = backbone.tokens_from_normalised(normalised[first : first + batch])
            synchronise(backbone)
            seconds = (time.perf_counter() - start) / len(normalised)
            self.forward.setdefault(batch, []).append(seconds)
        # Some tokens at a time, into one array: the product alone, not the cost of fresh memory.
        tokens = tokens.flatten(0, 1)
        out = torch.empty(512, sae.features, device=tokens.device)
        start = time.perf_counter()
        for _ in range(REPEATS):
            for first in range(0, len(tokens), len(out)):
                torch.mm(tokens[first : first + len(out)], sae.W_enc, out=out)
        synchronise(backbone)
        self.product.append((time.perf_counter() - start) / REPEATS / 32)

    def around(self, number: int) -> tuple[float, float]:
        """Forward, by the batch size with the least median, and product: means of before and after a measurement."""
        best = min(self.forward.values(), key=median)
        return mean(best[number : number + 2]), mean(self.product[number : number + 2])


def synchronise(backbone: infoscope.Backbone) -> None:
    """Wait for a GPU, so that what is timed is its work."""
    if backbone.device.type == "cuda":
        torch.cuda.synchronize()


def print_agreement(options: Benchmark, scope: infoscope.Scope, files: list[Path]) -> None:
    """Compare top images and scores with the definition."""
    assert options.sae is not None
    reference = Reference(options.model, options.block, prefix=5, sae=options.sae, files=files)
    top = scope.manifest.options["top_images"]
    best, _ = reference.ranking(top)
    found: list[list[int]] = [[] for _ in best]
    for feature, image in scope.top_images.select("feature", "image").iter_rows():
        found[feature].append(image)
    codes = [reference.crops(i) for i in range(len(files))]
    distances = reference.distances()
    worst, missing = 0.0, 0
    for feature, ranked in enumerate(best):
        pairs = [emd(*reference.overlap(*(crop[:, feature] for crop in codes[i])), distances) for i in ranked]
        valid = [value for value in pairs if not np.isnan(value)]
        score = scope.table["cds"][feature]
        if len(valid) >= top / 2 and score is not None:
            worst = max(worst, abs(score - float(np.mean(valid))))
        elif len(valid) >= top / 2 or score is not None:
            missing += 1
    same = sum(a == b for a, b in zip(found, best, strict=True))
    print(
        f"agreement: the same top images for {same} of {len(best)} features; largest difference in CDS {worst:.1e}; "
        f"scored by one of them alone: {missing}"
    )


def peak(options: Benchmark, count: int) -> int:
    """Peak memory of a process of its own, in MiB."""
    command = [sys.executable, __file__, "--model", str(options.model), "--features", str(options.features)]
    command += ["--activation", options.activation, *(["--sae", str(options.sae)] if options.sae else [])]
    command += ["--images", str(options.images), "--block", str(options.block), "--peak-of", str(count)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
