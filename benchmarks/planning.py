"""Does a run foresee how far two runs on twice as many images agree? Two runs on disjoint images are the answer.

    python benchmarks/planning.py --one RUN --other RUN --smaller RUN RUN

Fitted on each of the two runs, on random halves of their images (the ranking of a half is what lies in it of the
whole's, as far as that reaches: a feature whose ranking ends before is left out), and on any smaller runs; held against
the rank correlation of CDS between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float64, Int64

from common import print_table
from infoscope.measurement.planning import plan_of, ranked_pairs
from infoscope.runtime.run import Run, open_run
from infoscope.scope.planning import ImagePlan, part_scores, plan_images
from infoscope.scope.reliability import spearman


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    one: Path
    """A run."""
    other: Path
    """A run of the same dictionary on as many images, none of them shared."""
    smaller: tuple[Path, ...] = ()
    """Runs of it on fewer images."""
    halves: int = 5
    """Random halves of each of the two."""


def main(options: Benchmark) -> None:
    """Print predicted against measured."""
    runs = {str(path): open_run(path) for path in (options.one, options.other, *options.smaller)}
    one, other, *_ = runs.values()
    images, top = one.manifest.images.count, int(one.manifest.options["top_images"])
    sizes = [size for size in (2, 4, 8, 16, 32, 64) if size <= top]
    measured = {size: agreement(one, other, size) for size in sizes}
    rows = [["measured"] + [f"{value:.2f}" for value in measured.values()]]
    rows += [[name, *expected([plan_of(run)], images, measured)] for name, run in runs.items()]
    for name, run in list(runs.items())[:2]:
        plans = [half(run, seed) for seed in range(options.halves)]
        rows.append([f"halves of {name}", *expected(plans, images, measured)])
    heads = ["fitted on", *(f"k = {size}" for size in sizes)]
    print_table(f"Rank correlation of CDS between runs on {images:,} images each", heads, rows, left=1)


def agreement(one: Run, other: Run, size: int) -> float:
    """Rank correlation of CDS over the first so many images between two runs."""
    scores = [by_feature(run, size) for run in (one, other)]
    both = ~np.isnan(scores[0]) & ~np.isnan(scores[1])
    return spearman(scores[0][both], scores[1][both])


def by_feature(run: Run, size: int) -> Float64[np.ndarray, " feature"]:
    """CDS over the first images, of every feature of the dictionary."""
    distance, image = ranked_pairs(run.top_images, run.manifest.options)
    of_image = np.zeros(run.manifest.images.count, np.int64)
    scores, _ = part_scores(distance, image, of_image, parts=1, size=size)
    found = np.full(run.scope.height, np.nan)
    found[np.unique(run.top_images["feature"].to_numpy())] = scores[0]
    return found


def half(run: Run, seed: int) -> ImagePlan | None:
    """The plan of a run on a random half of the images with half as many ranks."""
    distance, image = ranked_pairs(run.top_images, run.manifest.options)
    count, ranks = run.manifest.images.count // 2, image.shape[1] // 2
    chosen = np.random.default_rng(seed).permutation(run.manifest.images.count)[:count]
    number = np.full(run.manifest.images.count + 1, -1)
    number[chosen] = np.arange(count)
    own: Int64[np.ndarray, "feature rank"] = number[image]
    known = ((own >= 0).sum(axis=1) >= ranks) | (image[:, -1] < 0)
    order = np.argsort(own < 0, axis=1, kind="stable")[known][:, :ranks]
    own, distance = (np.take_along_axis(values[known], order, axis=1) for values in (own, distance))
    return plan_images(np.where(own >= 0, distance, np.nan), own, count, ranks)


def expected(plans: list[ImagePlan | None], images: int, measured: dict[int, float]) -> list[str]:
    """By k, the expected correlation, its mean over plans, and the largest miss of any."""
    grown = [plan.growth for plan in plans if plan is not None]
    cells = []
    for size, value in measured.items():
        each = [growth.reliability(images, size) for growth in grown]
        cells.append(
            f"{np.mean(each):.2f} (off {max(abs(r - value) for r in each):.2f})" if each else "too few features"
        )
    return cells


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
