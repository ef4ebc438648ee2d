"""What decides how long a normal token is: the table of docs/outliers.md, by block.

python benchmarks/token_norms.py --images photographs
python benchmarks/token_norms.py --images photographs --model dinov2-small-reg4
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tyro

import infoscope
from common import print_table
from infoscope.analyses.outliers.cutoffs import LONG
from infoscope.backbones.backbone import Backbone
from infoscope.images.prefetch import decode_ahead
from infoscope.images.source import ImageSource, spread_evenly
from infoscope.images.views import Views


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    images: str
    model: str | None = None
    """A real model. Default: the planted one, planted in these images."""
    count: int = 50
    """Photographs, spread evenly."""
    shift: int = 2


def main(options: Benchmark) -> None:
    images = infoscope.open_images(options.images)
    model = options.model
    backbone = infoscope.plant(images).backbone if model is None else infoscope.load_backbone(model, -1)
    sample = sorted(spread_evenly(len(images), options.count))
    rows = [
        [str(block), *(f"{value:.2f}" for value in describe(norms, options.shift))]
        for block, norms in enumerate(read(backbone, images, sample, options.shift))
    ]
    heads = ("block", "spread, of the mean", "equal pixels", "equal places", "share of place")
    print_table(f"norms of normal tokens, {backbone.name}, {len(sample)} photographs", heads, rows)


def read(backbone: Backbone, images: ImageSource, sample: list[int], shift: int) -> list[np.ndarray]:
    """Norms of both crops' patch tokens at every block, ``[image, 2, row, column]``; NaN over 3 times the median."""
    views = Views(backbone.patch_size, backbone.grid, shift)
    found = []
    for batch in decode_ahead(images, sample, views.crops, 8, None):
        for pair in batch.pixels:
            found.append(
                backbone.read_blocks(pair, range(backbone.blocks), lambda _, tokens: tokens.norm(dim=-1).cpu().numpy())
            )
    norms = np.array(found, np.float64)[..., backbone.prefix_tokens :].transpose(1, 0, 2, 3)
    blocks = norms.reshape(backbone.blocks, len(found), 2, backbone.grid, backbone.grid)
    return [np.where(block > LONG * np.median(block), np.nan, block) for block in blocks]


def describe(norms: np.ndarray, shift: int) -> tuple[float, float, float, float]:
    """Spread; correlation within a picture at equal pixels and at equal places; share of variance due to place."""
    side = norms.shape[2] - shift

    def correlation(first: np.ndarray, second: np.ndarray) -> float:
        known = ~np.isnan(first) & ~np.isnan(second)
        return float(np.corrcoef(first[known], second[known])[0, 1])

    pixels = [correlation(first[shift:, shift:], second[:side, :side]) for first, second in norms]
    place = [correlation(first, second) for first, second in norms]
    spread, variance = np.nanstd(norms) / np.nanmean(norms), np.nanvar(norms)
    shared = np.nanmean(norms, axis=(0, 1)).var() / variance
    return float(spread), float(np.mean(pixels)), float(np.mean(place)), float(shared)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
