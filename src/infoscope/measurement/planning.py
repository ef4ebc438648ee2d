"""How many images a run would need for a reliable CDS, from its table of top images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from infoscope.runtime.manifest import ImagesRecord
from infoscope.runtime.run import Run
from infoscope.scope.planning import ImagePlan, plan_images


def plan_of(run: Run) -> ImagePlan | None:
    """The plan of a run that is open.

    Raises:
        InfoscopeError: ``top_images.parquet`` cannot be read.
    """
    return run_plan(run.top_images, run.manifest.options, run.manifest.images)


def run_plan(top_images: pl.DataFrame, options: Mapping[str, Any], images: ImagesRecord) -> ImagePlan | None:
    """The plan of a run; see `infoscope.scope.planning.plan_images`.

    Args:
        top_images: the table of ``top_images.parquet``.
        options: of the measurement, from its manifest.
        images: the images, from its manifest.

    Returns:
        The plan; None where the run has too few ranks or features to say.
    """
    if top_images.is_empty():
        return None
    distance, image = ranked_pairs(top_images, options)
    top = int(options["top_images"])
    return plan_images(distance, image, images.count, top, int(options["min_pairs"]) / top)


def ranked_pairs(
    top_images: pl.DataFrame, options: Mapping[str, Any]
) -> tuple[Float64[np.ndarray, "feature rank"], Int64[np.ndarray, "feature rank"]]:
    """Distances and images by feature and rank, of the features with an image, in order; see `plan_images`."""
    feature, rank = top_images["feature"].to_numpy(), top_images["rank"].to_numpy()
    known, row = np.unique(feature, return_inverse=True)
    shape = len(known), int(rank.max()) + 1
    distance, image = np.full(shape, np.nan), np.full(shape, -1, np.int64)
    image[row, rank] = top_images["image"].to_numpy()
    emd = top_images["emd"].fill_null(np.nan)
    if options.get("empty_as") == "one":
        # As `PairScores.distances`: a pair that has mass in one crop only counts as far as can be.
        emd = top_images.select(
            pl.when((pl.col("mass_first") > 0) != (pl.col("mass_second") > 0)).then(1.0).otherwise(emd).alias("emd")
        )["emd"]
    distance[row, rank] = emd.to_numpy()
    return distance, image
