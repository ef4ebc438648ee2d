"""What a lower precision of the model's passes does to rankings and scores, against float32.

    python benchmarks/precision.py --sae runs/real/sae

On a GPU also its speed; on a CPU bf16 and fp16 tell of the deviation alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import tyro
from scipy.stats import spearmanr

import infoscope
from common import OnPhotographs, Pool, print_table
from infoscope.options import Precision
from pipeline import measure


@dataclass(frozen=True, kw_only=True)
class Benchmark(OnPhotographs):
    """Options of the benchmark."""

    sae: Path
    count: int = 200
    precisions: tuple[Precision, ...] = ("bf16", "fp16")
    device: str = "auto"


def main(options: Benchmark) -> None:
    rows = []
    reference, seconds = scored(options, "float32")
    for precision in options.precisions:
        scope, taken = scored(options, precision)
        both = reference.table.select("feature", "cds").join(scope.table.select("feature", other="cds"), on="feature")
        both = both.drop_nulls()
        apart = (both["cds"] - both["other"]).abs().to_numpy()
        kept = reference.top_images.join(scope.top_images, on=["feature", "image"], how="inner").height
        rows.append(
            [
                precision,
                f"{taken / seconds:.2f}",
                f"{kept / reference.top_images.height:.3f}",
                *(f"{value:.4f}" for value in np.quantile(apart, [0.5, 0.95, 1.0])),
                f"{spearmanr(both['cds'], both['other']).statistic:.4f}",
            ]
        )
    heads = ("precision", "time over float32", "top images kept", "median |dCDS|", "95 %", "largest")
    title = f"against float32, {options.count} photographs"
    print_table(title, (*heads, "rank correlation of CDS"), rows)
    middle = float(np.median(reference.table["cds"].drop_nulls().to_numpy()))
    print(f"for scale: CDS has median {middle:.3f}, and its interval is {interval(reference.table):.3f} wide")


def scored(options: Benchmark, precision: Precision) -> tuple[infoscope.Scope, float]:
    """A measurement in one precision, and its seconds."""
    backbone = infoscope.load_backbone(options.model, options.block, device=options.device, precision=precision)
    sae = infoscope.load_sae(options.sae)
    measure(backbone, sae, Pool(options.files, 16))
    start = time.perf_counter()
    return measure(backbone, sae, Pool(options.files, options.count)), time.perf_counter() - start


def interval(table: pl.DataFrame) -> float:
    """Median width of the features' intervals."""
    width = (table["cds_ci_upper"] - table["cds_ci_lower"]).drop_nulls().to_numpy()
    return float(np.median(width))


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
