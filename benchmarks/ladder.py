"""What a ladder's comparisons come to, with their errors: subsets of a group less sets disjoint from it.

    infoscope zeroshot RUN --images PHOTOGRAPHS --remove local --ladder --out zeroshot
    infoscope probe RUN --data DATA --remove local --sites site --ladder --out probe
    python benchmarks/ladder.py zeroshot probe

For each folder, figure, group and step: the mean over the sets of a side, and the mean difference over pairs of sets
with its standard error, sets and test images both taken as drawn at random, p by Student's t over the pairs, and p
after Holm's correction over all comparisons of all folders (`infoscope.analyses.predictors.removals`). And how far the
removed energy of any set is from its step. Figures that are no mean over images are left out, but for mIoU, of which
each image has its share to first order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import polars as pl
import tyro
from jaxtyping import Float64, Int64

from common import print_table
from infoscope.analyses.predictors.removals import Difference, compare_sets, holm
from infoscope.analyses.probes.overlaps import unpack_overlaps
from infoscope.analyses.probes.variant_scores import FinishedScores
from infoscope.analyses.zeroshot.result import ZEROSHOT_FILE, read_predictions
from infoscope.errors import InfoscopeError
from infoscope.runtime.run import PARTIALS

STANDS = 0.05
# By figure and variant, the score of each image.
ByImage: TypeAlias = Mapping[str, Mapping[tuple[str, str, int | None], Float64[np.ndarray, " image"]]]


@dataclass(frozen=True)
class Benchmark:
    """Options of the tables."""

    folders: Annotated[list[Path], tyro.conf.Positional]
    """What `infoscope zeroshot --ladder` or `infoscope probe --ladder` wrote."""


@dataclass(frozen=True)
class Compared:
    """One comparison: a step of a group's ladder under one figure."""

    site: str
    figure: str
    group: str
    step: float
    difference: Difference


def main(options: Benchmark) -> None:
    read_in = [read(folder) for folder in options.folders]
    sets = [variants.filter(pl.col("side").is_not_null()) for variants, _ in read_in]
    for folder, own in zip(options.folders, sets, strict=True):
        if own.is_empty():
            raise InfoscopeError(
                f"{folder} has no sets of a ladder: run its command with --ladder, or no step was fair"
            )
    compared = [list(compare(own, by_image)) for own, (_, by_image) in zip(sets, read_in, strict=True)]
    corrected = iter(holm([each.difference.p for one in compared for each in one]))
    for folder, own, one in zip(options.folders, sets, compared, strict=True):
        rows = [
            [
                each.site,
                each.figure,
                each.group,
                f"{each.step:.0%}",
                f"{each.difference.first:.4f}",
                f"{each.difference.second:.4f}",
                f"{each.difference.value:+.4f} ± {each.difference.error:.4f}",
                f"{each.difference.sets_error:.4f}",
                f"{each.difference.images_error:.4f}",
                f"{each.difference.p:.2g}",
                f"{p:.2g}" + (" *" if p < STANDS else ""),
                str(each.difference.pairs),
            ]
            for each, p in zip(one, corrected, strict=False)
        ]
        heads = ("site", "figure", "group", "step", "subsets", "disjoint", "difference", "of sets", "of images", "p")
        print_table(str(folder), (*heads, "p, Holm", "pairs"), rows, left=3, width=180)
        off = float(np.abs(own["energy_share"].to_numpy() / own["step"].to_numpy() - 1).max())
        print(f"{len(one)} comparisons; {len(own)} sets, whose energy is within {off:.2%} of their step")


def read(folder: Path) -> tuple[pl.DataFrame, ByImage]:
    """One row a variant, and the scores of each image."""
    if (folder / ZEROSHOT_FILE).is_file():
        return pl.read_parquet(folder / "zeroshot.parquet").with_columns(site=pl.lit("rerun")), of_zeroshot(folder)
    if (folder / "probe.json").is_file():
        table = pl.read_parquet(folder / "variants.parquet")
        return table.filter(pl.col("metric") == table["metric"][0]), of_probe(folder)
    raise InfoscopeError(f"{folder} holds neither a zero-shot test nor a probe: name what --out named")


def of_zeroshot(folder: Path) -> ByImage:
    """The figures of each image."""
    predicted = read_predictions(folder)
    first = predicted.filter(pl.col("name") == predicted["name"][0])["prediction_class"].to_numpy()
    scores: dict[str, dict[tuple[str, str, int | None], np.ndarray]] = {}
    for (name, draw), rows in predicted.group_by("name", "draw", maintain_order=True):
        figures = {
            "accuracy": (rows["rank"] == 0).to_numpy(),
            "entropy": rows["entropy"].to_numpy(),
            "own class's probability": rows["true_probability"].to_numpy(),
            "confidence": rows["confidence"].to_numpy(),
            "flips": rows["prediction_class"].to_numpy() != first,
        }
        for figure, values in figures.items():
            scores.setdefault(figure, {})["rerun", str(name), draw] = values.astype(np.float64)
    return scores


def of_probe(folder: Path) -> ByImage:
    """The first metric of each image, from the finished scores that a probe keeps."""
    record = json.loads((folder / "probe.json").read_text())
    finished = FinishedScores(folder / PARTIALS)
    table = pl.read_parquet(folder / "variants.parquet").filter(pl.col("metric") == record["metric"])
    scores = {}
    for number, (site, name, draw) in enumerate(table.select("site", "name", "draw").iter_rows()):
        score = finished.score(number)
        if score is None:
            raise InfoscopeError(f"{folder / PARTIALS} has no scores of {name}: probe again, and keep that folder")
        own = np.array(score.per_image) if score.per_image else shares_of_miou(unpack_overlaps(score.overlaps))
        scores[site, name, draw] = own
    return {record["metric"]: scores}


def shares_of_miou(counts: Int64[np.ndarray, "image 2 class"]) -> Float64[np.ndarray, " image"]:
    """Numbers whose mean is the mIoU, and which vary from image to image as it does to first order.

    Of a class, intersection over union is a ratio of two sums over images; what an image adds to it is its own
    intersection less the ratio times its own union, over the mean union.

    Example:
        >>> counts = np.array([[[1, 0], [2, 0]], [[0, 3], [1, 3]]])
        >>> shares_of_miou(counts).mean().round(3)
        0.667
    """
    intersection, union = counts[:, 0].astype(np.float64), counts[:, 1].astype(np.float64)
    there = union.sum(0) > 0
    intersection, union = intersection[:, there], union[:, there]
    iou = intersection.sum(0) / union.sum(0)
    shares: np.ndarray = (iou + (intersection - iou * union) / union.mean(0)).mean(1)
    return shares


def compare(sets: pl.DataFrame, by_image: ByImage) -> Iterator[Compared]:
    """Every step of every group's ladder, figure by figure."""
    keys = ["site", "control_of", "step"]
    for figure, scores in by_image.items():
        for (site, group, step), rows in sets.group_by(keys, maintain_order=True):
            sides = [
                np.stack([scores[key] for key in of_side.select("site", "name", "draw").iter_rows()])
                for of_side in (rows.filter(pl.col("side") == side).sort("draw") for side in ("subset", "disjoint"))
            ]
            yield Compared(str(site), figure, str(group), float(str(step)), compare_sets(*sides))


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
