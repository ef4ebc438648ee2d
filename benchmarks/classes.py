"""How often the older rules recover the class of a feature from drawn maps whose class is known.

    PYTHONPATH=tests python benchmarks/classes.py

The maps are those of `tests/drawn_maps.py`: numpy alone, on the terms of the planted truth (method, section 9), traps
included, on other seeds than the tests'. Balanced accuracy is the mean over the four classes, of each the mean over its
kinds.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import tyro

from common import print_table
from drawn_maps import TRUTH, judged, planted_pairs

SETTINGS = ((2, 16, 0.3), (2, 16, 0.0), (2, 16, 0.4), (2, 8, 0.3), (2, 32, 0.3), (1, 16, 0.3), (4, 16, 0.3))


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    features: int = 60
    """Features of each kind."""
    grid: int = 14
    seed: int = 5


def main(options: Benchmark) -> None:
    rows = []
    for shift, k, noise in SETTINGS:
        found, by_class = [], defaultdict(list)
        for kind, truth in TRUTH.items():
            pairs = planted_pairs(kind, options.features, k, options.grid, shift, noise, options.seed)
            names = judged(pairs, options.grid, shift, k)[3]
            found.append(float(np.mean([name == truth for name in names])))
            by_class[truth].append(found[-1])
        balanced = float(np.mean([np.mean(shares) for shares in by_class.values()]))
        rows.append([str(shift), str(k), str(noise), f"{balanced:.3f}", *(f"{share:.2f}" for share in found)])
    title = f"share of {options.features} features of each kind whose class is recovered"
    print_table(title, ("shift", "k", "noise", "balanced", *TRUTH), rows, width=180)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
