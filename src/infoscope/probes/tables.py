"""The tables of a probe."""

from __future__ import annotations

from types import MappingProxyType

import polars as pl

from infoscope.storage.schema import Column, Table

_OF_TEST = "on the test split"

VARIANTS: Table = MappingProxyType(
    {
        "site": Column(pl.String, "", "rerun: the rest of the network runs on; site: the block's own edited tokens"),
        "name": Column(pl.String, "", "the variant; the draws of one random control share it"),
        "draw": Column(pl.UInt32, "index", "draw of a random control, from 1; null elsewhere"),
        "kind": Column(
            pl.String, "", "what divides the features of the group: partition, class, rule, list, random; null without"
        ),
        "method": Column(pl.String, "", "keep-error or reconstruct; null where nothing is edited"),
        "replacement": Column(
            pl.String, "", "what the codes become: zero, mean, resampled; null where none are removed"
        ),
        "features": Column(pl.UInt32, "count", "features removed"),
        "mass": Column(
            pl.Float64, "share, 0 to 1", "their activation mass: sum of code times decoder-row norm, of that of all"
        ),
        "metric": Column(pl.String, "", "which score this row is"),
        "score": Column(pl.Float64, "of the metric", f"the score {_OF_TEST}"),
        "validation": Column(
            pl.Float64, "of the metric", "where the choice was made, never on the test split; of the first metric alone"
        ),
        "difference": Column(pl.Float64, "of the metric", "score less the untouched model's at the same site"),
        "difference_lower": Column(
            pl.Float64,
            "of the metric",
            "lower end of its 95 % interval: paired bootstrap over the test images, heads as they are; null where the "
            "metric is no mean over images",
        ),
        "difference_upper": Column(pl.Float64, "of the metric", "upper end"),
    }
)

PER_CLASS: Table = MappingProxyType(
    {
        "site": VARIANTS["site"],
        "name": VARIANTS["name"],
        "draw": VARIANTS["draw"],
        "class": Column(pl.String, "", "name of the class"),
        "score": Column(pl.Float64, "share, 0 to 1", f"IoU or top-1 {_OF_TEST}; null for a class that is not there"),
    }
)
